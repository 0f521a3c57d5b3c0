# The node agent with its own iptables (both backends) and nft, so that a node that ships neither can still be judged.
#   docker buildx build --platform linux/amd64,linux/arm64 -t imds-guard .
#   docker run --rm --network host --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW imds-guard check
# It holds what runs and nothing else: no package manager, no shell but dash. What is in it, as CycloneDX:
#   docker run --rm --entrypoint cat imds-guard /usr/share/sbom/imds-guard.cdx.json

# The bundle, made on the builder's own machine for the target's.
FROM --platform=$BUILDPLATFORM node:24-trixie-slim AS build
ARG TARGETARCH
# strip takes 17 MB off Node. Each machine's tools exist on the other, under the target's name.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends "binutils-$(case $TARGETARCH in arm64) echo aarch64 ;; *) echo x86-64 ;; esac)-linux-gnu"
WORKDIR /src
COPY package.json package-lock.json .npmrc tsconfig.json ./
COPY agent/node-iptables/package.json agent/node-iptables/
RUN npm ci --loglevel=error --no-progress
COPY agent agent
RUN node agent/build.mjs "$(case $TARGETARCH in arm64) echo arm64 ;; *) echo x64 ;; esac)" dist \
 && $(case $TARGETARCH in arm64) echo aarch64 ;; *) echo x86_64 ;; esac)-linux-gnu-strip dist/node dist/koffi.node

# The programs that it starts, and their libraries.
FROM debian:trixie-slim AS programs
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends iptables nftables iproute2 util-linux netbase libstdc++6
COPY daemonset/image /collect
RUN sh /collect/programs.sh /image
COPY --from=build /src/dist /image/opt/imds-guard
RUN sh /collect/sbom.sh /image

FROM scratch
ARG VERSION=0.1.0
COPY --from=programs /image /
# Through PATH, `kubectl exec … -- imds-guard check` finds it too.
ENV PATH=/opt/imds-guard:/usr/sbin:/usr/bin
LABEL org.opencontainers.image.title="imds-guard" \
      org.opencontainers.image.description="Keeps the pods of an EKS node away from the EC2 instance metadata service, and proves it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
ENTRYPOINT ["/opt/imds-guard/imds-guard"]
CMD ["check"]
