"""Pods by the restricted Pod Security standard, images that exist and do not move, no secret in plain sight."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared.images import VERSION
from k8s.check.manifests import Rendered, containers, where
from k8s.check.references import External

_OWN = re.compile(r"(?:.*/)?deepvideo-r1-(?P<role>[a-z]+)$")
_SECRET_NAME = re.compile(r"passw|secret|token|credential|access_?key", re.IGNORECASE)
_PASSWORD_IN_URI = re.compile(r"://[^/\s:@]+:(?!\$\()[^/\s@]+@")
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def check_pod_security(rendered: Rendered) -> Iterator[str]:
    """What the restricted standard would refuse."""
    for place, _, pod in rendered.pods():
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(name):
                yield f"{place}: {name} is not allowed"
        for volume in pod.get("volumes", ()):
            for kind in set(volume) - {"name"} - _VOLUMES:
                yield f"{place}: volume {volume['name']!r} of type {kind} is not allowed"
        for container in containers(pod):
            yield from _container(f"{place}, container {container['name']!r}", pod, container)


def _container(place: str, pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    context = {**pod.get("securityContext", {}), **own}
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield f"{place}: must run as another user than root (runAsNonRoot)"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{place}: needs seccompProfile RuntimeDefault"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield f"{place}: needs allowPrivilegeEscalation: false"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{place}: must drop all capabilities"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield f"{place}: hostPort is not allowed"


def check_images(rendered: Rendered, external: External, dockerfile: Path) -> Iterator[str]:
    """Images without a fixed version, and those that nobody builds."""
    built = set(re.findall(r"^FROM .* AS (\w+)", dockerfile.read_text(), re.MULTILINE))
    for place, _, pod in rendered.pods():
        for image in (container["image"] for container in containers(pod)):
            name, digest, tag = _parts(image)
            if not digest and tag in ("", "latest"):
                yield f"{place}: image {image!r} has no fixed version"
            if own := _OWN.match(name):
                if own["role"] not in built:
                    yield f"{place}: image {image!r} is not built: docker/Dockerfile has no stage {own['role']!r}"
                if tag and tag.removesuffix("-cpu") != VERSION:
                    yield f"{place}: image {image!r} is not of version {VERSION}"
            elif image not in external.images:
                yield f"{place}: image {image!r} is neither built in docker/ nor listed in external.yaml"


def _parts(image: str) -> tuple[str, str, str]:
    """(name, digest, tag) of an image."""
    name, _, digest = image.partition("@")
    head, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}/{last}" if head else last, digest, tag


def check_secrets(rendered: Rendered) -> Iterator[str]:
    """Secrets that stand in the manifests instead of being referred to."""
    for item in rendered.of("Secret"):
        if item.get("data") or item.get("stringData"):
            yield f"{where(item)}: holds its values; make it outside, and refer to it"
    values = [(where(item), item["data"]) for item in rendered.of("ConfigMap")]
    for place, _, pod in rendered.pods():
        for container in containers(pod):
            values.append((place, {item["name"]: item.get("value", "") for item in container.get("env", ())}))
    for place, texts in values:
        for name, text in texts.items():
            if text and _SECRET_NAME.search(name) and not text.startswith("$("):
                yield f"{place}: {name} stands in plain text; take it from a Secret"
            if _PASSWORD_IN_URI.search(text):
                yield f"{place}: {name} has a password in its address; take it from a Secret"
