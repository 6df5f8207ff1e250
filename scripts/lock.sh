#!/usr/bin/env bash
# Writes requirements/*.txt anew from pyproject.toml: exact versions with the hashes of every file of each
# version, so that one lock serves every supported CPython. No addresses are written: where packages come from is
# the business of the machine that installs them. Run with the oldest supported CPython, by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PIP_FIND_LINKS

tools=.cache/pip-tools
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" install --quiet "pip-tools==7.6.2"

compile() {
  "$tools/bin/pip-compile" --quiet --no-config --generate-hashes --strip-extras --allow-unsafe --no-header \
    --annotation-style=line --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" pyproject.toml
}

# Later files are held to the versions of the earlier ones, so that all environments agree.
compile "${@}" --output-file requirements/runtime.txt
compile "${@}" --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
compile "${@}" --extra dev --extra fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt

# The crash server of the tests lives in an environment of its own: it brings Django, and its licence (PolyForm Shield)
# keeps it a test tool.
"$tools/bin/pip-compile" --quiet --no-config --generate-hashes --strip-extras --allow-unsafe --no-header \
  --annotation-style=line --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" \
  --output-file requirements/bugsink.txt - <<<'bugsink>=2.6'
