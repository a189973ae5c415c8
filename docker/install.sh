#!/bin/sh
# Inside a build, with the host's CA bundle if it was handed in:
#   install.sh NAME...        into /opt/venv, by the project's one list of pins; of the project itself only what it needs
#   install.sh --code FOLDER  the project's own code, and nothing else, into FOLDER
set -eu
[ -s /run/secrets/ca.pem ] && export PIP_CERT=/run/secrets/ca.pem
if [ "$1" = --code ]; then
  exec pip install --quiet --no-deps --target "$2" .
fi
for wanted in "$@"; do
  # For GPUs exactly the registry's build, which brings CUDA: by "==" a build for CPUs wins wherever pip is offered one.
  [ "$wanted-${VARIANT:-}" = torch-gpu ] && wanted=torch===$(sed -n 's/^torch==//p' docker/constraints.txt)
  pip install --quiet --constraint docker/constraints.txt "$wanted"
done
pip uninstall --quiet --yes deepvideo-r1-pipelines 2>/dev/null

# vLLM asks for these two, nothing here uses them, and where they do not load beside this torch they break other imports.
for name in torchaudio torchcodec; do
  python -c "import $name" 2>/dev/null || pip uninstall --quiet --yes "$name" 2>/dev/null
done

# What an image for GPUs must not lack, whatever pip was offered.
if [ "$1-${VARIANT:-}" = torch-gpu ] && ! python -c 'import torch; exit(torch.version.cuda is None)'; then
  echo "torch has no CUDA here, so this would be no image for GPUs: see where pip takes torch from (pip config list)" >&2
  exit 1
fi
