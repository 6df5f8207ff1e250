#!/usr/bin/env bash
# Makes the environment of the crash server that tests and the local stack use, from locked packages: .cache/bugsink.
# It is apart from the project's own because it brings Django.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.cache/bugsink
stamp=$folder/.installed
if [ -e "$stamp" ] && [ "$stamp" -nt requirements/bugsink.txt ]; then
  exit 0
fi
echo "Installing the crash server for tests into $folder..."
"${PYTHON:-.venv/bin/python}" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bugsink.txt
touch "$stamp"
