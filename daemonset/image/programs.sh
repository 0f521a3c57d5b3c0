#!/bin/sh
# Copies the programs that imds-guard starts, and the libraries that those and Node need, from this Debian into an empty
# root: a whole Debian is 75 MB, of which 12 are used. Each package that gave a file leaves its name and version where
# scanners look (/var/lib/dpkg/status.d, as distroless images do) and its licence.
set -eu
root=$1

programs='sh cat readlink sleep nsenter ip tc nft
iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore
iptables-nft iptables-nft-save iptables-nft-restore ip6tables-nft ip6tables-nft-save ip6tables-nft-restore
iptables-legacy iptables-legacy-save iptables-legacy-restore ip6tables-legacy ip6tables-legacy-save ip6tables-legacy-restore'

# One place for everything, as in the Debian it comes from.
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/run" "$root/var"
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
ln -s /run "$root/var/run"

# take FILE: under the name that it is asked by, and noted for who owns it.
taken=$(mktemp)
take() {
  folder=$(realpath "$(dirname "$1")")
  mkdir -p "$root$folder"
  cp -L --preserve=mode "$1" "$root$folder/"
  realpath "$1" >>"$taken"
}

# Many names, few files: links stay links, to a file in the same folder (Debian's own go round by /etc/alternatives).
for program in $programs; do
  path=$(command -v "$program")
  file=$(realpath "$path")
  test -e "$root$file" || take "$file"
  name=$(realpath "$(dirname "$path")")/$program
  test -e "$root$name" || ln -s "$(realpath --relative-to "$(dirname "$name")" "$file")" "$root$name"
done

# iptables loads an extension for each match and target that it prints; nft prints protocols by name.
for extension in /usr/lib/*/xtables/*.so; do take "$extension"; done
for file in /etc/protocols /etc/services; do take "$file"; done

# Node's own libraries, though Node comes later: libstdc++ brings the rest.
library=/usr/lib/$(uname -m)-linux-gnu
for name in libstdc++.so.6 libdl.so.2 libpthread.so.0 libm.so.6 libgcc_s.so.1; do take "$library/$name"; done
find "$root" -type f | while read -r file; do ldd "$file" 2>/dev/null || true; done |
  sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p' | sort -u |
  while read -r file; do take "$file"; done

# Before Debian moved everything to /usr, packages said /lib; some still do.
packages=$(sort -u "$taken" | while read -r file; do
  dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}" 2>/dev/null || { echo "no package owns $file" >&2; exit 1; }
done | sed 's/: .*//' | sort -u)
mkdir -p "$root/var/lib/dpkg/status.d"
for package in $packages; do
  name=${package%%:*}
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$name"
  mkdir -p "$root/usr/share/doc/$name"
  cp -L "/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/"
done
cp -L /etc/os-release "$root/etc/"

# Nobody but root may change anything, and nothing makes anybody more than they are.
chmod -R go-w,u-s,g-s "$root"
