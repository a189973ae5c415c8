"""The kubeconfig that leads a Kubernetes client to a test's own server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

TOKEN = "token-1"


def lead_to(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write it into `folder`, and make it the one that clients find, here and in processes of their own."""
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": url}}],
                "users": [{"name": "test", "user": {"token": TOKEN}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    for module in ("kubernetes.config", "kubernetes.config.kube_config"):  # read when they were imported
        monkeypatch.setattr(f"{module}.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setenv("KUBECONFIG", str(path))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return path
