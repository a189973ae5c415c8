"""A real S3 server: Ceph's RADOS Gateway on one monitor and one store in memory, from Debian's packages.

In tests: the fixtures of tests/conftest.py. On the command line, for a server until Ctrl-C (20 s to start):

    python tests/services/radosgw.py        prints the AWS variables to export
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"ceph": "ceph-common", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "radosgw": "radosgw"}
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
KMS_KEY = "testkey-1"  # the one key of the gateway's key store for tests
_STARTS_WITHIN = 600.0  # seconds, on a busy machine
_STORE_SIZE = 4 << 30  # bytes in memory at most

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
osd objectstore = memstore
memstore device bytes = {store_size}
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms_key}={kms_secret}
"""


class Gateway:
    """A gateway on a port of its own, for HTTP or (with a self-signed certificate) HTTPS. Its data dies with it."""

    def __init__(self, folder: Path) -> None:
        missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
        if missing:
            raise RuntimeError(f"the S3 server needs Debian's packages: sudo apt-get install {' '.join(missing)}")
        self.folder, self.port, self.tls_port = folder, free_port(), free_port()
        self.config, self.certificate = folder / "ceph.conf", folder / "ca.pem"
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
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def start(self) -> None:
        """Make the cluster and start everything."""
        mon_port, fsid, osd_id = free_port(), str(uuid.uuid4()), str(uuid.uuid4())
        values = {"fsid": fsid, "mon_port": mon_port, "folder": self.folder, "store_size": _STORE_SIZE}
        values |= {"kms_key": KMS_KEY, "kms_secret": base64.b64encode(os.urandom(32)).decode()}
        self.config.write_text(_CONFIG.format(**values))
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        monmap = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{mon_port}]"
        self._run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemon("mon", "ceph-mon", "-i", "a")
        self._run("ceph", "--connect-timeout", "60", "osd", "new", osd_id)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._daemon("osd", "ceph-osd", "-i", "0")
        self._make_certificate()
        self.start_gateway()
        user = ["--uid", "test", "--display-name", "test", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        self._run("radosgw-admin", "user", "create", *user)

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
                preexec_fn=_die_with_parent,
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


def free_port() -> int:
    """One that nothing listens on, for a server that is started later, and again after a kill.

    It is none of those that Linux gives to whoever asks for any port: another test's connection would have it by then.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 10_000 + secrets.randbelow(max(first - 10_000, 10_000))
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no daemon outlives a killed test


def main() -> None:
    """Run a gateway until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), radosgw() as gateway:
        for name, value in gateway.environment.items():
            print(f"export {name}={json.dumps(value)}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
