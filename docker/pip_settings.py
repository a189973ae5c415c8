#!/usr/bin/env python3
"""The host's pip settings as one pip.conf on standard output, for a build; `--folders`: the local folders they name.

`--index URL` adds a package index. Certificates are left out: a build gets them in a file of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

_LEFT_OUT = {"cert", "client-cert", "disable-pip-version-check", "no-cache-dir", "cache-dir", "require-virtualenv"}


def settings(listed: str) -> dict[str, str]:
    """Key -> value of what `pip config list` prints; the environment wins over files, `install` over `global`."""
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            where, _, key = name.rpartition(".")
            if where == section and key not in _LEFT_OUT:
                found[key] = literal_eval(value)
    return found


def folders(found: dict[str, str]) -> list[str]:
    """Local folders among the values, each once; of an index (`.../simple`) the one above, whose files it links to."""
    words = [word.removeprefix("file://") for value in found.values() for word in re.split(r"\s+", value)]
    paths = [Path(word) for word in words if word.startswith("/")]
    return sorted({str(path.parent if path.name == "simple" else path) for path in paths if path.is_dir()})


def pip_conf(found: dict[str, str]) -> str:
    """The settings as a file that pip reads."""
    lines = [f"{key} = {' '.join(value.split())}" for key, value in sorted(found.items())]
    return "\n".join(["[global]", *lines]) + "\n"


def main(arguments: list[str]) -> None:
    """Print what the arguments ask for."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found = settings(listed)
    if arguments[:1] == ["--index"]:
        found["extra-index-url"] = f"{arguments[1]} {found.get('extra-index-url', '')}".strip()
    print("\n".join(folders(found)) if arguments == ["--folders"] else pip_conf(found).rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
