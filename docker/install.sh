#!/bin/sh
# Inside a build: install into /opt/venv, by the project's one list of pins, with the host's CA bundle if it was handed in.
set -eu
[ -s /run/secrets/ca.pem ] && export PIP_CERT=/run/secrets/ca.pem
for wanted in "$@"; do
  pip install --quiet --constraint docker/constraints.txt "$wanted"
done

# vLLM asks for these two, nothing here uses them, and where they do not load beside this torch they break other imports.
for name in torchaudio torchcodec; do
  python -c "import $name" 2>/dev/null || pip uninstall --quiet --yes "$name" 2>/dev/null
done
