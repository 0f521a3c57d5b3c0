#!/bin/sh
# Writes what is in the image into it, as CycloneDX, and looks whether every program and library in it finds what it needs.
set -eu
root=$1
mkdir -p "$root/usr/share/sbom"
"$root/opt/imds-guard/node" "$(dirname "$0")/sbom.mjs" "$root" >"$root/usr/share/sbom/imds-guard.cdx.json"
# Of this file and of the bundle; the programs are so already.
chmod -R go-w "$root"

loader=$(cd "$root" && ls usr/lib*/ld-linux-*)
missing=$(find "$root" -type f \( -perm /111 -o -name '*.so*' -o -name '*.node' \) ! -name '*.cjs' | while read -r file; do
  chroot "$root" "/$loader" --list "${file#"$root"}" 2>&1 | grep -E 'not found|No such file' | sed "s|^|${file#"$root"}: |" || true
done)
test -z "$missing" || { echo "$missing" >&2; exit 1; }
