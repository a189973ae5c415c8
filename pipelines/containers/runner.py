"""How kfp's Docker runner starts a task's container: as little allowed as in a pod, and what it is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.progress import VARIABLE
from components.shared.schemas import Record
from pipelines.containers import task
from pipelines.containers.engine import LABEL

if TYPE_CHECKING:
    from kfp.local import DockerRunner

# Handed on from the environment to the containers, and written nowhere: secrets stay out of the compiled pipeline.
_HANDED_ON = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"),
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "OMP_NUM_THREADS"),
)
_USER = 10001  # the images' own


class InContainers(Record):
    """What a run's containers share: its name, the folders that they write, and what of this machine they may read."""

    run: str
    events: Path  # the file of its progress
    kernels: Path  # what DeepSpeed compiles when it is first used, kept for the next container
    inputs: tuple[Path, ...] = ()
    rootless_podman: bool = False  # whose containers have other user ids than this machine

    def prepare(self, kfp: Path) -> None:
        """Make the folders, so that the containers' user can write there. `kfp` is where kfp keeps tasks' small files."""
        for folder in (self.events.parent, self.kernels, kfp):
            folder.mkdir(parents=True, exist_ok=True)
            if os.getuid() == 0:
                os.chown(folder, _USER, _USER)
        self.events.touch()
        if os.getuid() == 0:
            os.chown(self.events, _USER, _USER)

    def runner(self) -> DockerRunner:
        """kfp's runner for this process. Containers have this user's id; where that is root's, the images' own."""
        from docker.types import Mount
        from kfp.local import DockerRunner

        task.use()
        shared = [(path, False) for path in (self.events.parent, self.kernels)] + [(path, True) for path in self.inputs]
        if ca := os.environ.get("AWS_CA_BUNDLE"):
            shared.append((Path(ca), True))
        mounts = [Mount(str(path), str(path), type="bind", read_only=fixed) for path, fixed in shared]
        options: dict[str, Any] = {"userns_mode": "keep-id"} if self.rootless_podman else {}
        return DockerRunner(
            user=f"{os.getuid() or _USER}:{os.getgid() if os.getuid() else _USER}",
            environment=self._environment(os.environ),
            labels={LABEL: self.run},
            network_mode="host",
            mounts=mounts,
            read_only=True,
            tmpfs={"/scratch": "rw,exec,mode=1777"},  # exec: compiled kernels are loaded from there
            shm_size="2g",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            **options,
        )

    def _environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        known = {name: ours[name] for name in _HANDED_ON if ours.get(name)}
        own = {VARIABLE: str(self.events), "TORCH_EXTENSIONS_DIR": str(self.kernels), "USER": "deepvideo"}
        return {**known, **own, "PYTHONWARNINGS": "ignore"}
