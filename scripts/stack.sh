#!/usr/bin/env bash
# Makes the programs of the local telemetry stack in .cache/stack/bin, each once for its versions:
#
#   otelcol-pqvpn            of otel-collector/manifest.yaml, by the collector's builder
#   jaeger                   of its Go module
#   prometheus promtool alertmanager amtool   of Debian's packages, unpacked and not installed
#   compose-check            of otel-collector/check: judges the compose file without a container
#   the crash server         scripts/bugsink.sh
#
#   scripts/stack.sh [--rules-only]     only what the rules' unit tests need: Debian's part
#
# Needs Go 1.25 or later for all but the third and the last (about seven minutes on two cores, once) and apt-get for the third.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=$root/.cache/stack
bin=$cache/bin
jaeger_version=v1.76.0
builder_version=v0.155.0
mkdir -p "$bin"

say() { echo "$*" >&2; }

# made NAME STAMP: whether NAME was made of what STAMP says
made() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1" 2>/dev/null)" = "$2" ]; }

find_go() {
  local candidate
  for candidate in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
    if command -v "$candidate" >/dev/null && [[ "$("$candidate" env GOVERSION)" =~ ^go1\.(2[5-9]|[3-9][0-9]) ]]; then
      command -v "$candidate"
      return
    fi
  done
  say "Go 1.25 or later is missing (Debian: golang-go of backports, or go.dev). The collector and Jaeger are built with it."
  return 1
}

build_collector() {
  local go=$1 work=$cache/build/collector
  say "Building the collector (about two minutes, once)..."
  rm -rf "$work" && mkdir -p "$work"
  GOBIN=$cache/build/bin "$go" install "go.opentelemetry.io/collector/cmd/builder@$builder_version"
  # Its own `go mod tidy` would want modules that only tests import.
  sed "s|^dist:|&\n  output_path: $work|" otel-collector/manifest.yaml >"$cache/build/manifest.yaml"
  "$cache/build/bin/builder" --config "$cache/build/manifest.yaml" --skip-get-modules --skip-compilation >"$cache/build/builder.log" 2>&1 ||
    { tail -20 "$cache/build/builder.log" >&2; return 1; }
  (
    cd "$work"
    "$go" mod init otelcol-pqvpn >"$cache/build/tidy.log" 2>&1
    sed -n 's/.*gomod: \(.*\) \(v.*\)/-require=\1@\2/p' "$cache/build/manifest.yaml" | xargs "$go" mod edit
    "$go" mod tidy -e >>"$cache/build/tidy.log" 2>&1 || true
    "$go" build -trimpath -ldflags="-s -w" -o "$bin/otelcol-pqvpn" .
  )
}

build_jaeger() {
  local go=$1 work=$cache/build/jaeger sums
  say "Building Jaeger (about five minutes, once)..."
  rm -rf "$work" && mkdir -p "$work"
  cd "$work"
  printf 'module stack\n\ngo 1.25\n' >go.mod
  # Jaeger's own checksums first: one look-up fails otherwise.
  sums=$("$go" mod download -json "github.com/jaegertracing/jaeger@$jaeger_version" | sed -n 's/.*"Dir": "\(.*\)",\{0,1\}/\1/p')
  cp "$sums/go.sum" go.sum
  chmod u+w go.sum
  "$go" get -tool "github.com/jaegertracing/jaeger/cmd/jaeger@$jaeger_version" >"$cache/build/jaeger.log" 2>&1 ||
    { tail -20 "$cache/build/jaeger.log" >&2; return 1; }
  "$go" build -trimpath -ldflags="-s -w" -o "$bin/jaeger" github.com/jaegertracing/jaeger/cmd/jaeger
  cd "$root"
}

build_compose_check() {
  say "Building the check of the compose file..."
  (cd otel-collector/check && GOFLAGS=-mod=readonly "$1" build -trimpath -ldflags="-s -w" -o "$bin/compose-check" .)
}

unpack_debian() {
  local work=$cache/build/debian
  command -v apt-get >/dev/null || { say "apt-get is missing: put prometheus, promtool, alertmanager and amtool into $bin"; return 1; }
  say "Fetching Prometheus and Alertmanager..."
  rm -rf "$work" && mkdir -p "$work/packages" && cd "$work/packages"
  if ! apt-get download prometheus prometheus-alertmanager >/dev/null 2>&1; then
    apt-get update -qq && apt-get download prometheus prometheus-alertmanager >/dev/null
  fi
  for package in *.deb; do dpkg-deb -x "$package" "$work"; done
  cd "$root"
  cp "$work/usr/bin/prometheus" "$work/usr/bin/promtool" "$work/usr/bin/amtool" "$bin/"
  cp "$work/usr/bin/prometheus-alertmanager" "$bin/alertmanager"
  # Debian's programs look for their templates and pages there and nowhere else.
  if [ ! -e /usr/share/prometheus/alertmanager ]; then
    if [ -w /usr/share ]; then
      mkdir -p /usr/share/prometheus && cp -r "$work/usr/share/prometheus/." /usr/share/prometheus/
    else
      say "As root: apt-get install prometheus-alertmanager (for /usr/share/prometheus/alertmanager)"
      return 1
    fi
  fi
}

export GOFLAGS="-mod=mod ${GOFLAGS:-}"
if ! made prometheus debian || [ ! -e /usr/share/prometheus/alertmanager ]; then
  unpack_debian
  echo debian >"$bin/.prometheus"
fi
[ "${1:-}" != --rules-only ] || exit 0

go=$(find_go)
collector_stamp=$(sha256sum <otel-collector/manifest.yaml | cut -c1-16)
if ! made otelcol-pqvpn "$collector_stamp"; then
  build_collector "$go"
  echo "$collector_stamp" >"$bin/.otelcol-pqvpn"
fi
if ! made jaeger "$jaeger_version"; then
  build_jaeger "$go"
  echo "$jaeger_version" >"$bin/.jaeger"
fi
check_stamp=$(cat otel-collector/check/* | sha256sum | cut -c1-16)
if ! made compose-check "$check_stamp"; then
  build_compose_check "$go"
  echo "$check_stamp" >"$bin/.compose-check"
fi
scripts/bugsink.sh
