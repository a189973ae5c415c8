"""`make manifests`: render every overlay and check it. `python -m k8s.check [--crds FOLDER] [ROOT]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from k8s.check.manifests import Rendered, RenderFailed, render
from k8s.check.references import External, check_names, check_selectors
from k8s.check.safety import check_images, check_pod_security, check_secrets
from k8s.check.schemas import Schemas, check_schemas, custom_schemas, exported_schemas

ROOT = Path(__file__).parents[1]


def check(rendered: Rendered, external: External, dockerfile: Path, *schemas: Schemas) -> Iterator[str]:
    """Everything that is wrong with an overlay, a line each."""
    yield from check_schemas(rendered, *schemas)
    yield from check_names(rendered, external)
    yield from check_selectors(rendered, external)
    yield from check_images(rendered, external, dockerfile)
    yield from check_secrets(rendered)
    yield from check_pod_security(rendered)


def main(arguments: list[str]) -> int:
    """Print what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser(prog="python -m k8s.check", description="Render and check the manifests.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="folder of the manifests")
    parser.add_argument("--crds", type=Path, help="folder of CRDs of your cluster, which are checked as well")
    given = parser.parse_args(arguments)
    external = External.read(given.root)
    dockerfile = given.root.parent / "docker" / "Dockerfile"
    schemas = [custom_schemas(), *([exported_schemas(given.crds)] if given.crds else [])]
    found = 0
    try:
        for rendered in render(given.root):
            faults = list(check(rendered, external, dockerfile, *schemas))
            print(f"{rendered.overlay}: {len(rendered.objects)} objects, {len(faults)} faults")
            for fault in faults:
                print(f"  {fault}")
            found += len(faults)
    except RenderFailed as failed:
        print(failed, file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
