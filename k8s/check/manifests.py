"""Rendered manifests, and the parts of them that checks look at."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Where KFP's API server would stand: the component for its kustomization is rendered onto it.
_API_SERVER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: ml-pipeline, namespace: kubeflow}
spec:
  selector: {matchLabels: {app: ml-pipeline}}
  template:
    metadata: {labels: {app: ml-pipeline}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: ml-pipeline-api-server
          image: ghcr.io/kubeflow/kfp-api-server:2.17.0
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


class RenderFailed(RuntimeError):
    """kubectl is missing or cannot render; the message says what to do."""


@dataclass(frozen=True)
class Rendered:
    """The objects of one overlay."""

    overlay: str
    objects: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        """The names of the objects of a kind."""
        return {item["metadata"]["name"] for item in self.of(kind)}

    def pods(self) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
        """(where it stands, its labels, its spec) of every pod that the objects make."""
        for item in self.objects:
            for template in _templates(item.get("spec")):
                yield where(item), template.get("metadata", {}).get("labels", {}), template["spec"]


def where(item: dict[str, Any]) -> str:
    """Kind and name of an object, for messages."""
    return f"{item['kind']}/{item['metadata']['name']}"


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod's spec."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _templates(value: Any) -> Iterator[dict[str, Any]]:
    """Every pod template at or below a value."""
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield value
            return
        for below in value.values():
            yield from _templates(below)
    if isinstance(value, list):
        for below in value:
            yield from _templates(below)


def render(root: Path) -> list[Rendered]:
    """Every overlay below `root`/overlays, and the component for KFP's API server. Raises RenderFailed."""
    if shutil.which("kubectl") is None:
        raise RenderFailed("kubectl: is not installed; it renders the manifests (1.27 or later, no cluster needed)")
    overlays = [render_overlay(folder) for folder in sorted((root / "overlays").iterdir()) if folder.is_dir()]
    return [*overlays, Rendered("kubeflow", _on_api_server(root))]


def render_overlay(folder: Path) -> Rendered:
    """The objects of the overlay in a folder. Raises RenderFailed."""
    return Rendered(folder.name, _kustomize(folder))


def _kustomize(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise RenderFailed(f"{folder}: {done.stderr.strip()}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _on_api_server(root: Path) -> list[dict[str, Any]]:
    folder = root / ".rendered"
    folder.mkdir(exist_ok=True)
    try:
        (folder / "api-server.yaml").write_text(_API_SERVER)
        kustomization = {"resources": ["api-server.yaml"], "components": ["../kubeflow"]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _kustomize(folder)
    finally:
        shutil.rmtree(folder)
