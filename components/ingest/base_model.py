"""The base model's way into the store: its own committed files, a folder, S3, or the hub at a pinned commit."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
from pathlib import Path

from components.ingest.errors import IngestError
from components.ingest.settings import REGISTRY, TINY, IngestSettings
from components.ingest.sources import FolderSource, Source, open_source
from components.shared.families import FAMILIES
from components.shared.files import sha256_bytes

TINY_WEIGHTS = Path(__file__).parent / "tiny_model" / "weights"
# weights that cannot run code, configuration, tokenizer, processor and licence; nothing else enters the store
ALLOWED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "LICENSE*", "NOTICE*")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def model_source(settings: IngestSettings) -> Source | None:
    """Where the base model's files are; None for the hub.

    Raises IngestError if `model` is none of what the setting allows, or if the hub's commit is missing.
    """
    model, revision = settings.model, settings.model_revision
    is_folder = Path(model).is_dir()
    if model == TINY or model.startswith("s3://") or is_folder:
        if revision:
            raise IngestError(
                f"ingest.model_revision: belongs to a hub id, but ingest.model is {model!r}: leave it empty"
            )
        return open_source(str(TINY_WEIGHTS) if model == TINY else model)
    if model.startswith(REGISTRY):
        raise IngestError(
            f"ingest.model: {model} is looked up by a run's first task: start a run, or name the model's folder or s3:// URI"
        )
    if not _HUB_ID.fullmatch(model):
        raise IngestError(f"ingest.model: {model!r} is no folder, s3:// URI or hub id, nor {TINY!r}")
    if not _COMMIT.fullmatch(revision):
        raise IngestError(
            f"ingest.model: there is no folder {model!r}; to take it from the hub, set ingest.model_revision to a commit "
            f"(40 hexadecimal digits; branches move), not {revision!r}"
        )
    return None


def model_stamp(settings: IngestSettings) -> str:
    """What changes with the base model's content, known without reading it."""
    source = model_source(settings)
    if source is None:
        return f"{settings.model}@{settings.model_revision}"
    return sha256_bytes(*(f"{name}\0{source.stamp(name)}\n".encode() for name in source.names()))


def stage_model(settings: IngestSettings, folder: Path) -> dict[str, str | int | float | bool]:
    """Copy the base model's files into the new `folder`; returns the policy's metadata.

    Raises IngestError, naming the file and the remedy, if the model cannot be had, is of a kind that is not supported,
    or has no whole safetensors weights.
    """
    model = settings.model
    source = model_source(settings) or open_source(str(_from_hub(model, settings.model_revision)))
    names = _usable_names(source, model)
    folder.mkdir(parents=True)
    _copy(source, ["config.json"], folder, model)
    metadata: dict[str, str | int | float | bool] = {}
    metadata |= {"source": model, "revision": settings.model_revision, "model_type": _model_type(folder, model)}
    _copy(source, [name for name in names if name != "config.json"], folder, model)
    _check_weights(folder, model)
    return metadata


def check_local_model(settings: IngestSettings) -> Path | None:
    """The base model's folder, its files checked as `stage_model` would, nothing copied; None for what is elsewhere."""
    if settings.model.startswith(REGISTRY):
        return None
    source = model_source(settings)
    if not isinstance(source, FolderSource):
        return None
    _usable_names(source, settings.model)
    _model_type(source.root, settings.model)
    _check_weights(source.root, settings.model)
    return source.root


def _usable_names(source: Source, model: str) -> list[str]:
    """The files that may enter the store. Raises IngestError if what a policy needs is not among them."""
    names = source.names()
    allowed = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in ALLOWED)]
    for name in ("config.json", "tokenizer.json"):
        if name not in allowed:
            raise IngestError(f"ingest.model: {model} has no {name}; save model and processor into one folder")
    if not any(name.endswith(".safetensors") for name in allowed):
        pickled = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in _PICKLED)]
        found = f"only {', '.join(pickled[:3])}, which may run code when read" if pickled else "none"
        raise IngestError(
            f"ingest.model: {model} needs .safetensors weights and has {found}; save it by save_pretrained"
        )
    return allowed


def _copy(source: Source, names: list[str], folder: Path, model: str) -> None:
    for name in names:
        try:
            path = source.fetch(name, folder)
            if path.parent != folder:
                shutil.copyfile(path, folder / name)
        except OSError as error:
            raise IngestError(f"ingest.model: {name} of {model} cannot be copied ({error})") from error


def _from_hub(repository: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(ALLOWED)))
    except Exception as error:  # the hub's client raises errors of several libraries
        raise IngestError(
            f"ingest.model: {repository} at {revision} could not be taken from the hub ({error}); check both names, "
            "the network, and HF_TOKEN"
        ) from error


def _model_type(folder: Path, model: str) -> str:
    try:
        found = json.loads((folder / "config.json").read_text()).get("model_type")
    except (ValueError, AttributeError) as error:
        raise IngestError(f"ingest.model: config.json of {model} is not a JSON object ({error})") from error
    if found not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise IngestError(f"ingest.model: config.json of {model} has model_type {found!r}; supported: {known}")
    return str(found)


def _check_weights(folder: Path, model: str) -> None:
    """Every shard there and whole, as far as its header and length tell."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    needed = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()
    if missing := sorted(name for name in needed if not (folder / name).is_file()):
        raise IngestError(f"ingest.model: {model} lacks {', '.join(missing[:3])}, named in {index.name}")
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np"):
                pass
        except SafetensorError as error:
            raise IngestError(
                f"ingest.model: {path.name} of {model} is damaged or no safetensors file ({error})"
            ) from error
