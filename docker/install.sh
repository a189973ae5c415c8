#!/bin/sh
# Inside a build, with the host's CA bundle if it was handed in:
#   install.sh NAME...        into /opt/venv, by the project's one list of pins; torch for VARIANT; of the project only what it needs
#   install.sh --code FOLDER  the project's own code, and nothing else, into FOLDER
set -eu
[ -s /run/secrets/ca.pem ] && export PIP_CERT=/run/secrets/ca.pem
if [ "$1" = --code ]; then
  exec pip install --quiet --no-deps --target "$2" .
fi
for wanted in "$@"; do
  if [ "$wanted" = torch ]; then
    docker/torch.sh "$VARIANT"
  else
    pip install --quiet --constraint docker/constraints.txt "$wanted"
  fi
done
pip uninstall --quiet --yes deepvideo-r1-pipelines 2>/dev/null

# vLLM asks for these two, nothing here uses them, and where they do not load beside this torch they break other imports.
for name in torchaudio torchcodec; do
  python -c "import $name" 2>/dev/null || pip uninstall --quiet --yes "$name" 2>/dev/null
done
