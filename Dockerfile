# The node agent with its own iptables (both backends) and nft, so that a node that ships neither can still be judged.
#   docker build -t imds-guard .
#   docker run --rm --network host --pid host --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW imds-guard check
FROM node:24-trixie-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc tsconfig.json ./
COPY agent ./agent
RUN npm ci --ignore-scripts --loglevel=error && node agent/build.mjs

FROM debian:trixie-slim
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends iptables nftables iproute2 util-linux \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/dist /opt/imds-guard
ENTRYPOINT ["/opt/imds-guard/imds-guard"]
CMD ["check"]
