"""The container engine on this machine: Docker's, or podman's, which speaks the same API over a socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.images import ROLES, image
from components.shared.ledger import code_version
from pipelines.containers.daemons import end_with_parent
from pipelines.run_folder import RunRefused

if TYPE_CHECKING:
    from docker.client import DockerClient

LABEL = "deepvideo.run"  # of every container of a run: its name
_CODE = "from components.shared.ledger import code_version; print(code_version())"
_STARTS_WITHIN = 60.0  # seconds, on a busy machine


@contextlib.contextmanager
def engine() -> Iterator[DockerClient]:
    """A client of DOCKER_HOST's engine, else of Docker here, else of podman's service, started for the block.

    DOCKER_HOST names it for child processes meanwhile. Raises RunRefused if there is none.
    """
    with _address() as address, _variable("DOCKER_HOST", address):
        client = _client(address)
        if client is None:
            raise RunRefused(f"--containers: no container engine answers at DOCKER_HOST={address}")
        try:
            yield client
        finally:
            client.close()


def check_images(client: DockerClient) -> None:
    """Raises RunRefused for an image that is not there, or that was built from other code than this."""
    from docker.errors import ContainerError, ImageNotFound

    for role in ROLES:
        name = image(role, cpu=True)
        try:
            told = client.containers.run(name, ["python3", "-c", _CODE], remove=True, network_mode="host")
        except ImageNotFound:
            raise RunRefused(f"--containers: there is no image {name}; `make images` builds it") from None
        except ContainerError as error:
            said = (error.stderr or b"").decode(errors="replace").strip()
            raise RunRefused(
                f"--containers: image {name} does not start: {said}; build it again: `make images`"
            ) from None
        if told.decode().strip() != code_version():
            raise RunRefused(f"--containers: image {name} was built from other code than this: `make images`")


def stop_containers(client: DockerClient, run_name: str) -> None:
    """Kill the run's containers: they outlive the process that started them."""
    from docker.errors import APIError

    for container in client.containers.list(filters={"label": f"{LABEL}={run_name}"}):
        with contextlib.suppress(APIError):  # it has just ended
            container.kill()


def is_rootless_podman(client: DockerClient) -> bool:
    """Whether containers' user ids are mapped to others of this machine, and `keep-id` makes them ours."""
    parts = {str(part.get("Name", "")) for part in client.version().get("Components", ())}
    return "Podman Engine" in parts and "name=rootless" in client.info().get("SecurityOptions", ())


@contextlib.contextmanager
def _address() -> Iterator[str]:
    if given := os.environ.get("DOCKER_HOST"):
        yield given
    elif _client(docker := "unix:///var/run/docker.sock") is not None:
        yield docker
    elif podman := shutil.which("podman"):
        with tempfile.TemporaryDirectory(prefix="deepvideo-") as folder:
            address = f"unix://{folder}/podman.sock"
            with open(Path(folder) / "podman.log", "wb") as log:
                command = [podman, "system", "service", "--time=0", address]
                service = subprocess.Popen(
                    command, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
                )
            try:
                deadline = time.monotonic() + _STARTS_WITHIN
                while _client(address) is None:
                    if service.poll() is not None or time.monotonic() > deadline:
                        said = (Path(folder) / "podman.log").read_text(errors="replace").strip()
                        raise RunRefused(f"--containers: podman's service does not start: {said}")
                    time.sleep(0.2)
                yield address
            finally:
                service.terminate()
                service.wait()
    else:
        raise RunRefused(
            "--containers: there is neither Docker nor podman here. On Debian:"
            " apt-get install --no-install-recommends podman buildah"
        )


def _client(address: str) -> DockerClient | None:
    """A client, None if nothing answers there."""
    from docker.client import DockerClient
    from docker.errors import DockerException

    try:
        client = DockerClient(base_url=address, timeout=600)
        client.ping()
    except (DockerException, OSError):
        return None
    return client


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
