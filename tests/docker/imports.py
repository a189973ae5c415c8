"""Which packages the code of an image imports, read from its source, wherever in a file the import stands."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# An engine is imported when a setting asks for it, in the images that have one.
ENGINES = {"components.shared.generation.vllm_engine", "components.shared.generation.transformers_engine"}
# Modules that steps start as processes of their own, by name
PROCESSES = {
    "light": [
        "components.ingest.decode_worker",
        "components.ingest.readers.decord_reader",
        "components.ingest.readers.pyav_reader",
    ],
    "generation": [],
    "training": ["components.training.worker", "components.training.trainjob.node"],
}


def steps_of(role: str) -> list[str]:
    """The modules of the KFP faces that name the role's image."""
    faces = [*ROOT.glob("components/*/component.py"), *ROOT.glob("pipelines/*/component.py")]
    return [_name(path) for path in sorted(faces) if f'@step_component("{role}")' in path.read_text()]


def imported(role: str) -> tuple[set[str], set[str]]:
    """(the project's modules, others' top-level packages) that the steps of an image can reach."""
    modules: set[str] = set()
    packages: set[str] = set()
    left_out = set() if role == "generation" else ENGINES
    waiting = [*steps_of(role), *PROCESSES[role]]
    while waiting:
        module = waiting.pop()
        if module in modules | left_out:
            continue
        modules.add(module)
        waiting.extend(_above(module))
        for name in _imports(ast.parse(_path(module).read_text())):  # type: ignore[union-attr]
            top = name.split(".")[0]
            if top in ("components", "pipelines"):
                waiting.extend([name] if _path(name) else [])
            elif top not in sys.stdlib_module_names:
                packages.add(top)
    return modules, packages


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (item.name for item in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (name for item in child.names if _path(name := f"{child.module}.{item.name}"))
        yield from _imports(child)


def _above(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _path(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)
