#!/bin/sh
# Installs the pinned PyTorch into the environment whose `python` comes first: torch.sh cpu|gpu
#   cpu  PyTorch's build for CPUs, the one vLLM's takes: from where pip looks, or else from PyTorch's own index
#   gpu  PyPI's build, which brings CUDA, even where pip is offered one for CPUs
# TORCH_INDEX=URL: a package index to take it from instead, such as PyTorch's for another CUDA.
set -eu
pins=$(dirname "$0")/constraints.txt
version=$(sed -n 's/^torch==//p' "$pins")
take() { python -m pip --disable-pip-version-check install --quiet --constraint "$pins" "$@"; }

if [ -n "${TORCH_INDEX:-}" ]; then
  take --extra-index-url "$TORCH_INDEX" "torch==$version"
elif [ "$1" = gpu ]; then
  take "torch===$version"
else
  take "torch==$version+cpu" 2>/dev/null ||
    take --extra-index-url https://download.pytorch.org/whl/cpu "torch==$version+cpu"
fi

if [ "$1" = gpu ] && ! python -c 'import torch; exit(torch.version.cuda is None)'; then
  echo "This torch has no CUDA, which the GPU variant needs: see where pip takes torch from (pip config list; TORCH_INDEX)." >&2
  exit 1
fi
