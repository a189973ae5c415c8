#!/usr/bin/env bash
# Builds the images with podman or docker: `docker/build.sh [VARIANT...]`, by default cpu and gpu.
#   ROLES="light mlflow"     which images (default: all)
#   BASE=IMAGE               another base image
#   DEEPVIDEO_REGISTRY=HOST  what stands before their names (default: localhost)
#   TORCH_INDEX=URL          an additional package index for torch in CPU images, such as PyTorch's own
#   BUILDER=podman|docker    which of the two (default: the first that works)
# The host's proxy variables, CA bundle (SSL_CERT_FILE, PIP_CERT or pip's `cert`) and pip settings hold inside the build
# too, and reach no layer. Folders that pip's settings name are mounted read-only, with podman.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
builder() {
  for name in ${BUILDER:-podman docker}; do
    command -v "$name" >/dev/null && "$name" info >/dev/null 2>&1 && { echo "$name"; return; }
  done
  say "Neither podman nor docker works here. On Debian: apt-get install --no-install-recommends podman buildah"
  exit 1
}
builder=$(builder)
settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT

ca=${SSL_CERT_FILE:-${PIP_CERT:-$(python3 -m pip config get global.cert 2>/dev/null || true)}}
if [ -n "$ca" ]; then cp "$ca" "$settings/ca.pem"; else : >"$settings/ca.pem"; fi
docker/pip_settings.py >"$settings/pip.conf"

options=(--file docker/Dockerfile)
[ -n "${BASE:-}" ] && options+=(--build-arg "BASE=$BASE")
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [ -n "${!name:-}" ] && options+=(--build-arg "$name=${!name}")
done
if [ "$builder" = podman ]; then
  while read -r folder; do options+=(--volume "$folder:$folder:ro"); done < <(docker/pip_settings.py --folders)
fi

version=$(python3 -c 'from components.shared.images import VERSION; print(VERSION)')
revision=$(git rev-parse HEAD)$(git diff --quiet HEAD -- || echo -dirty)
for variant in "${@:-cpu gpu}"; do for one in $variant; do
  cp "$settings/pip.conf" "$settings/$one.conf"
  [ "$one" = cpu ] && [ -n "${TORCH_INDEX:-}" ] && docker/pip_settings.py --index "$TORCH_INDEX" >"$settings/$one.conf"
  for role in ${ROLES:-light generation training mlflow}; do
    name=$(python3 -c 'import sys; from components.shared.images import image; print(image(sys.argv[1], sys.argv[2] == "cpu"))' \
      "$role" "$one")
    say "$name ($one, $builder)"
    DOCKER_BUILDKIT=1 "$builder" build "${options[@]}" --target "$role" --tag "$name" \
      --secret "id=ca.pem,src=$settings/ca.pem" --secret "id=pip.conf,src=$settings/$one.conf" \
      --build-arg "VARIANT=$one" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" .
  done
done; done
