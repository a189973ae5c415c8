"""What a run takes from the model registry: the champion that it challenges, and the base model if it names one there."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlparse

from components.ingest.settings import REGISTRY
from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.tracking import Champion, resolve_champion
from pipelines.settings import RunSettings, SettingsError

_FORM = re.compile(
    r"models:/(?P<name>[^@/\s]+)@(?P<alias>[A-Za-z_][\w-]*)(?: else (?P<model>(?!models:/)\S+(?: \S+)*))?"
)


def remember_champion(settings: RunSettings, context: StepContext) -> str:
    """The champion that this run challenges, as JSON, empty if there is none: the same one when the run is continued."""
    return _remember(settings.promotion.registered_model, settings.promotion.alias, context)


def registry_model(model: str) -> re.Match[str] | None:
    """The name, alias and other model of an `ingest.model` that is in the registry; None for any other.

    Raises SettingsError for one that is not written as it must be.
    """
    if not model.startswith(REGISTRY):
        return None
    if found := _FORM.fullmatch(model):
        return found
    raise SettingsError(
        f"ingest.model: got {model!r}; of the registry it is models:/NAME@ALIAS, or models:/NAME@ALIAS else MODEL"
    )


def with_found_model(settings: RunSettings, context: StepContext) -> RunSettings:
    """The settings with the policy that `ingest.model` means in the registry: the same one when the run is continued.

    While the alias points to nothing, with the model after `else`. Raises SettingsError if there is none.
    """
    found = registry_model(settings.ingest.model)
    if found is None:
        return settings
    record = _remember(found["name"], found["alias"], context)
    if record:
        parsed = urlparse(Champion.model_validate_json(record).policy.uri)
        path = unquote(parsed.path) if parsed.scheme == "file" else parsed.geturl()
        changes = {"model": path, "model_revision": ""}
    elif found["model"]:
        changes = {"model": found["model"]}
    else:
        raise SettingsError(
            f"ingest.model: alias {found['alias']!r} of {found['name']} points to nothing"
            f"{'' if context.tracking_uri else ', as there is no tracking URI'}; say what to start from until a run was"
            f" promoted: {settings.ingest.model} else MODEL"
        )
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changes)})


def _remember(name: str, alias: str, context: StepContext) -> str:
    ledger = context.open_ledger()
    key = ledger.key("validation", {}, {"model": name, "alias": alias, "run": context.run_name}, context.seed)
    done = ledger.finished(key)
    if done is None:
        found = resolve_champion(context.tracking_uri, name, alias)
        record = found.model_dump_json() if found is not None else ""
        needed = {"champion": found.policy} if found is not None else {}  # kept as long as this run is
        done = ledger.finish(key, Outputs(artifacts=needed, results={"champion": record}))
    return str(done.results["champion"])
