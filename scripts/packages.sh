#!/usr/bin/env bash
# Installs the Debian packages that hold the given programs, where they are missing and it can (root, apt-get).
# Where it cannot, it says what is missing and goes on: whoever needs them tells what follows.
#
#   scripts/packages.sh PROGRAM...
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

declare -A package=(
  [ip]=iproute2 [ping]=iputils-ping [nft]=nftables [tcpdump]=tcpdump [iperf3]=iperf3 [openvpn]=openvpn
  [openssl]=openssl [wg]=wireguard-tools [go]=golang-go
)
missing=()
for program in "$@"; do
  command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "Missing Debian packages: ${missing[*]}" >&2
  echo "They cannot be installed from here. As root: apt-get install ${missing[*]}" >&2
  exit 0
fi
echo "Installing Debian packages: ${missing[*]}"
apt-get update -qq
if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
  echo "apt-get could not install: ${missing[*]}" >&2
fi
