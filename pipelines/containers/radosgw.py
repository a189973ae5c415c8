"""A real S3 server: Ceph's RADOS Gateway on one monitor and one store, from Debian's packages.

In tests, the store lies in memory and dies with the server (the fixtures of tests/conftest.py); for `deepvideo services`
it lies in a file, survives any kill, and the server finds its data and its ports again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.containers.daemons import end_with_parent, free_port

PACKAGES = {"ceph": "ceph-common", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "radosgw": "radosgw"}
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
KMS_KEY = "testkey-1"  # the one key of the gateway's key store for tests
_STARTS_WITHIN = 600.0  # seconds, on a busy machine
_IN_MEMORY = {"osd objectstore": "memstore", "memstore device bytes": str(4 << 30)}
_IN_A_FILE = {
    "osd objectstore": "bluestore",
    "bluestore block size": str(32 << 30),  # bytes at most; the file grows as it fills
    "bluestore fsck on mount": "false",
    "osd memory target": str(1 << 30),
}

_CONFIG = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}/0
public addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
paxos propose interval = 0.05
paxos min wait = 0.01
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms_key}={kms_secret}
{store}
"""


class Gateway:
    """A gateway on a port of its own, for HTTP or (with a self-signed certificate) HTTPS.

    Its data lies in memory and dies with it, unless it is `durable`: then in `folder`, from which it starts again.
    """

    def __init__(
        self, folder: Path, *, durable: bool = False, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY
    ) -> None:
        missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
        if missing:
            raise RuntimeError(f"the S3 server needs Debian's packages: sudo apt-get install {' '.join(missing)}")
        self.folder, self.durable = folder, durable
        self.access_key, self.secret_key = access_key, secret_key
        self.config, self.certificate = folder / "ceph.conf", folder / "ca.pem"
        self._ports = folder / "ports.json"  # written last: the cluster in this folder is complete
        known: list[int] = (
            json.loads(self._ports.read_text()) if self._ports.is_file() else [free_port() for _ in range(3)]
        )
        self.port, self.tls_port, self._mon_port = known
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables for this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def start(self) -> None:
        """Start everything, on the cluster that lies in the folder, or on one that is made there now."""
        if self._ports.is_file():
            self._daemon("mon", "ceph-mon", "-i", "a")
            self._daemon("osd", "ceph-osd", "-i", "0")
            self.start_gateway()
            return
        self._make_cluster()
        self._make_certificate()
        self.start_gateway()
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        self._run("radosgw-admin", "user", "create", "--uid", "deepvideo", "--display-name", "deepvideo", *keys)
        self._ports.write_text(json.dumps([self.port, self.tls_port, self._mon_port]))

    def _make_cluster(self) -> None:
        """A monitor and a store, started; what a broken-off try left is dropped."""
        for name in ("mon", "osd"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        values = {"fsid": fsid, "mon_port": self._mon_port, "folder": self.folder}
        values |= {"kms_key": KMS_KEY, "kms_secret": base64.b64encode(os.urandom(32)).decode()}
        store = "\n".join(f"{name} = {value}" for name, value in (_IN_A_FILE if self.durable else _IN_MEMORY).items())
        self.config.touch(mode=0o600)
        self.config.write_text(_CONFIG.format(**values, store=store))
        monmap = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemon("mon", "ceph-mon", "-i", "a")
        self._run("ceph", "--connect-timeout", "60", "osd", "new", osd_id)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._daemon("osd", "ceph-osd", "-i", "0")

    def start_gateway(self) -> None:
        """Start the gateway alone, and wait until it answers. What was stored before it was killed is there."""
        tls = f"ssl_endpoint=127.0.0.1:{self.tls_port} ssl_certificate={self.folder / 'server.pem'}"
        frontend = f"beast endpoint=127.0.0.1:{self.port} {tls}"
        self._daemon("gateway", "radosgw", "-n", "client.rgw", f"--rgw-frontends={frontend}")
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            if self._daemons["gateway"].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"radosgw does not start: see {self.folder}/gateway.out and its log there")
            time.sleep(0.2)

    def kill_gateway(self) -> None:
        """SIGKILL to the gateway alone: requests break off, the data stays."""
        self._daemons["gateway"].kill()
        self._daemons["gateway"].wait()

    def stop(self) -> None:
        """End everything."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(self.url, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _make_certificate(self) -> None:
        key, server = self.folder / "key.pem", self.folder / "server.pem"
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
        subprocess.run([*command, "-keyout", str(key), "-out", str(self.certificate)], check=True, capture_output=True)
        server.write_bytes(key.read_bytes() + self.certificate.read_bytes())

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [command, "-c", str(self.config), *arguments] if command != "monmaptool" else [command, *arguments],
            capture_output=True,
            timeout=_STARTS_WITHIN,
        )
        if done.returncode:
            raise RuntimeError(f"{command} {' '.join(arguments)}: {done.stderr.decode(errors='replace')[-2000:]}")

    def _daemon(self, name: str, command: str, *arguments: str) -> None:
        identity = ["--setuser", "root", "--setgroup", "root"] if os.getuid() == 0 else []
        with open(self.folder / f"{name}.out", "ab") as output:
            self._daemons[name] = subprocess.Popen(
                [command, "-c", str(self.config), "-f", *identity, *arguments],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C on the terminal is for the run, which still needs them
                preexec_fn=end_with_parent,
            )


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket on a gateway."""

    name: str
    gateway: Gateway
    environment: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"


@contextlib.contextmanager
def radosgw() -> Iterator[Gateway]:
    """A running gateway; all of it lies in memory and is gone at the end."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="radosgw-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        gateway = Gateway(Path(folder))
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.stop()
