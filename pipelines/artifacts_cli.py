"""`deepvideo artifacts`: look into an artifact store, take versions out of it, and delete what nothing needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from components.shared.lineage import Collection, Lineage, Rules, collect, find_version, plan_collection, read_lineage
from components.shared.runs import read_runs
from components.shared.schemas import ArtifactRef
from components.shared.store import Store, StoreError, open_store
from components.shared.store.base import KINDS
from components.shared.store.manifest import total_size
from components.shared.tracking import aliased_policies
from pipelines.overrides import parse_assignments
from pipelines.run_folder import RunFolder
from pipelines.settings import build_settings

app = typer.Typer(
    help="Look into an artifact store: its versions, what made them, and what nothing needs any more.",
    no_args_is_help=True,
)
console = Console()

Where = Annotated[
    str,
    typer.Option("--store", envvar="DEEPVIDEO_STORE", help="s3://bucket/prefix, a folder, or a local run's folder."),
]
Version = Annotated[str, typer.Argument(help="A digest or its beginning, also as KIND/DIGEST.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="store.FIELD=VALUE", help="Override a setting of the store; repeatable."),
]
_SHORT = 12  # characters of a digest in tables
_DAY = 86_400.0


def _open(where: str, assignments: list[str] | None = None) -> Store:
    """The store that the options mean. Raises StoreError if there is none."""
    settings = build_settings(parse_assignments(assignments or [])).store
    if "://" in where:
        store = open_store(where, settings)
        store.check()
        return store
    of_run = RunFolder(Path(where)).store
    if "://" in of_run:
        return _open(of_run, assignments)
    folder = Path(of_run) if Path(of_run).is_dir() else Path(where)
    if not folder.is_dir():
        raise StoreError(f"{where}: there is no such folder; give --store s3://bucket/prefix or a run's folder")
    if any(folder.iterdir()) and not any((folder / kind).is_dir() for kind in (*KINDS, "runs")):
        raise StoreError(f"{where}: there is no store in it; give --store s3://bucket/prefix or a run's folder")
    return open_store(str(folder))


@app.command("ls")
def list_versions(
    where: Where = "runs/laptop",
    kind: Annotated[str, typer.Option(help=f"Only this kind: {', '.join(KINDS)}.")] = "",
    run: Annotated[str, typer.Option(help="Only what this run asked for.")] = "",
) -> None:
    """List the versions: kind, digest, size, and the step and run that made each, the newest last."""
    store = _open(where)
    if kind and kind not in KINDS:
        raise StoreError(f"--kind {kind}: is unknown; there are {', '.join(KINDS)}")
    lineage = read_lineage(store)
    shown = [version for version in lineage.versions if not kind or version.startswith(f"{kind}/")]
    if run:
        asked = {item.record.name: item.work for item in read_runs(store)}
        if run not in asked:
            raise StoreError(f"--run {run}: the store knows no such run; it knows {', '.join(asked) or 'none'}")
        refs = [ref for key in asked[run] & set(lineage.records) for ref in _refs(lineage, key)]
        shown = [version for version in shown if version in {f"{ref.kind}/{ref.digest}" for ref in refs}]
    table = Table("kind", "digest", "size", "made by", "run", "at", box=None)
    rows = []
    for version in shown:
        name, digest = version.split("/")
        made = lineage.makers(version)
        work = lineage.records[made[0]].work if made else None
        step = (f"{work.step}, round {work.round}" if work.round else work.step) if work else "?"
        size = decimal(total_size(store.files_of(version)))
        at = work.finished[:19] if work else ""
        rows.append((at, name, digest[:_SHORT], size, step, work.run if work else "", at))
    for row in sorted(rows):
        table.add_row(*row[1:])
    console.print(table)
    console.print(f"{len(rows)} versions in {store.uri_of('')}")


def _find(versions: Iterable[str], text: str) -> str:
    """The version that `text` means. Raises StoreError."""
    digest = text.rpartition("/")[2]
    if not re.fullmatch("[0-9a-f]*", digest):
        raise StoreError(
            f"{text!r}: is no hexadecimal digest (0-9 and a-f), nor KIND/ before one; `deepvideo artifacts ls` lists them"
        )
    return find_version(versions, text)


@app.command("show")
def show_version(version: Version, where: Where = "runs/laptop") -> None:
    """Show one version: its files, which run and step made it and from what, and what it went into."""
    store = _open(where)
    lineage = read_lineage(store)
    name = _find(lineage.versions, version)
    files = store.files_of(name)
    console.print(f"[bold]{name}[/bold]\n{store.uri_of(name)}\n{decimal(total_size(files))} in {len(files)} files:")
    for path, entry in files.items():
        console.print(f"  {path}  {decimal(int(entry['size']))}  sha256 {entry['sha256']}", highlight=False)
    for key in lineage.makers(name) or [""]:
        _show_maker(lineage, name, key)
    for key in lineage.users(name):
        work = lineage.records[key].work
        names = [input_name for input_name, digest in work.inputs.items() if name.endswith(digest)]
        console.print(f"used by {work.step}, round {work.round}, of run {work.run or '?'} as {', '.join(names)}")


def _show_maker(lineage: Lineage, name: str, key: str) -> None:
    if not key:
        console.print("made by: no record says so")
        return
    work = lineage.records[key].work
    console.print(f"made by {work.step}, round {work.round}, of run {work.run or '?'} at {work.finished[:19]} ({key})")
    for ref in _refs(lineage, key):
        if f"{ref.kind}/{ref.digest}" == name and ref.metadata:
            console.print(f"  metadata: {', '.join(f'{field} = {value}' for field, value in ref.metadata.items())}")
    for input_name, digest in work.inputs.items():
        there = sorted(lineage.by_digest.get(digest, ()))
        console.print(f"  from {input_name}: {', '.join(there) or f'{digest} (no version of this store)'}")


@app.command("get")
def get_version(
    version: Version,
    folder: Annotated[Path, typer.Argument(help="Folder to write it to; missing or empty.")],
    where: Where = "runs/laptop",
) -> None:
    """Copy a version to a folder, every file checked by its SHA-256."""
    store = _open(where)
    name = _find(store.versions(), version)
    files = store.export(name, folder)
    console.print(f"{name}: {len(files)} files, {decimal(total_size(files))}, verified, in {folder}")


@app.command("gc")
def collect_garbage(
    where: Where = "runs/laptop",
    keep_runs: Annotated[int, typer.Option(min=0, help="Newest runs whose versions are kept.")] = 5,
    older_than: Annotated[float, typer.Option(min=0, help="Days: nothing younger is deleted.")] = 7.0,
    tracking_uri: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow, whose aliases protect versions.")
    ] = "",
    no_registry: Annotated[
        bool, typer.Option("--no-registry", help="There is no model registry: no alias protects.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it only say what would go.")] = False,
    assignments: Assignments = None,
) -> None:
    """Say what no alias, running run or recent run needs, by lineage; with --delete, delete it.

    An unfinished run counts as running until it was silent for --older-than days.
    """
    store = _open(where, assignments)
    database = RunFolder(Path(where)).root.parent / "mlflow.db"
    if not tracking_uri and "://" not in where and database.is_file():
        tracking_uri = f"sqlite:///{database}"
    if not tracking_uri and not no_registry:
        raise StoreError("give --tracking-uri, whose aliases protect versions, or --no-registry if there is none")
    aliases = [] if no_registry else aliased_policies(tracking_uri)
    for item in aliases:
        console.print(
            f"kept: {item.registered_model} version {item.version}, alias {item.alias}: {item.policy.digest[:_SHORT]}"
        )
    rules = Rules(frozenset(item.policy.digest for item in aliases), keep_runs, older_than * _DAY)
    if delete:
        _tell(collect(store, rules, lambda name: console.print(f"deleted {name}")), "Deleted")
    else:
        plan = plan_collection(store, rules, time.time())
        for name, size in {**plan.versions, **plan.work}.items():
            console.print(f"would delete {name}  {decimal(size)}", highlight=False)
        _tell(plan, "Would delete")
        console.print("Nothing was deleted; --delete does it.")


def _tell(plan: Collection, word: str) -> None:
    console.print(
        f"{word} {len(plan.versions)} versions ({decimal(sum(plan.versions.values()))}), {len(plan.work)} pieces of "
        f"unfinished work ({decimal(sum(plan.work.values()))}), {len(plan.leftovers)} broken-off writes and replaced "
        f"revisions ({decimal(sum(entry.size for entry in plan.leftovers))}), the traces of {len(plan.runs)} runs. "
        f"{plan.kept} versions are kept."
    )


def _refs(lineage: Lineage, key: str) -> list[ArtifactRef]:
    return list(lineage.records[key].outputs.artifacts.values())
