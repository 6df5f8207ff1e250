#!/usr/bin/env bash
# Makes the virtual environment FOLDER and installs the locked packages of REQUIREMENTS (hashes are required),
# then this project itself, editable and without reaching for anything else.
#
#   scripts/venv.sh FOLDER REQUIREMENTS
#
# Debian parts `venv` and `ensurepip` from python3: as root they are installed, otherwise the command is told.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 requirements=$2

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "No CPython 3.11 to 3.14 found. Install one (Debian: apt-get install python3 python3-venv)," >&2
  echo "or name it: make PYTHON=/path/to/python3.12 ..." >&2
  exit 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv, which Debian keeps apart from python3..."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
  else
    echo "Python's venv module is missing. Install it first: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi

if ! "$folder/bin/python" -c 'import sys' 2>/dev/null; then
  echo "Making a virtual environment in $folder with $("$python" --version)..."
  "$python" -m venv --clear "$folder"
fi
echo "Installing the locked packages of $requirements (versions and hashes are fixed)..."
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
# compat: a path file instead of an import hook, which would cost every start of `pqvpn` 50 ms
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index \
  --config-settings editable_mode=compat -e .
"$folder/bin/python" -m compileall -q pqvpn
