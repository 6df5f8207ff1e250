#!/usr/bin/env bash
# Makes what the stack keeps secret, once: a certificate for the collector with its own authority, the nodes' token,
# passwords. Prints what a node's configuration needs. Nothing that exists is written over.
#
#   ./setup.sh NAME-OR-ADDRESS...      as nodes will call the collector
set -euo pipefail
cd "$(dirname "$0")"
[ $# -gt 0 ] || { echo "usage: ./setup.sh NAME-OR-ADDRESS..." >&2; exit 64; }
umask 077
mkdir -p secrets
names=
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then names+="${names:+,}IP:$name"; else names+="${names:+,}DNS:$name"; fi
done
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc)
if [ ! -e secrets/ca.pem ]; then
  openssl req -x509 "${key[@]}" -days 3650 -subj "/CN=PQVPN telemetry" -keyout secrets/ca.key -out secrets/ca.pem \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign" 2>/dev/null
fi
if [ ! -e secrets/collector.pem ]; then
  openssl req -new "${key[@]}" -subj "/CN=$1" -keyout secrets/collector.key -out secrets/collector.csr 2>/dev/null
  openssl x509 -req -in secrets/collector.csr -CA secrets/ca.pem -CAkey secrets/ca.key -CAcreateserial -days 825 \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names") -out secrets/collector.pem 2>/dev/null
  rm secrets/collector.csr
fi
[ -e secrets/tokens ] || openssl rand -hex 24 >secrets/tokens
[ -e secrets/otlp.headers ] || echo "authorization: Bearer $(head -1 secrets/tokens)" >secrets/otlp.headers
if [ ! -e .env ]; then
  for name in GRAFANA_PASSWORD POSTGRES_PASSWORD GLITCHTIP_KEY; do echo "$name=$(openssl rand -hex 24)"; done >.env
fi
cat <<TEXT
Copy secrets/ca.pem and secrets/otlp.headers (mode 0600) into the folder of each node's configuration, and write there:

[telemetry]
endpoint = "https://$1:4318"
ca_file = "ca.pem"
headers_file = "otlp.headers"

Grafana's password for \`admin\` is in .env.
TEXT
