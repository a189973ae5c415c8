"""Close a run, however it ended: find out what became of it, tell the store and MLflow, and who wants to know."""

from __future__ import annotations

from components.shared.context import StepContext
from components.shared.ledger import LEDGER, LedgerRecord
from components.shared.runs import end_run, read_run, step_at_work, work_of_run
from components.shared.schemas import Record
from components.shared.store import Store, StoreError, StoreSettings
from components.shared.tracking import finish_parent
from pipelines.closing.notice import notify
from pipelines.closing.settings import NotificationSettings

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
_OF_KFP = {"SUCCEEDED": FINISHED, "COMPLETE": FINISHED, "FAILED": FAILED, "CANCELLED": KILLED, "CANCELED": KILLED}
_STORE = StoreSettings(patience=60)  # the notice must not wait for a store that is gone
_MLFLOW_PATIENCE = 300.0  # seconds that MLflow is waited for at the end


class Ending(Record):
    """How a run ended: its status in MLflow's words, the step it failed in, and what became of its policy."""

    status: str
    step: str = ""
    error: str = ""
    promoted: bool | None = None  # None: it did not get there
    reason: str = ""
    trouble: str = ""  # why the store could not be asked


def close(
    state: str,
    error: str,
    run_id: str,
    run_name: str,
    store: str,
    tracking_uri: str,
    experiment: str,
    notification: str,
) -> Ending:
    """Close the run. `state` and `error` are KFP's of the tasks as a whole, `notification` its settings as JSON.

    The notice goes out before a long wait for MLflow. Raises NotificationError if it cannot be sent.
    """
    settings = NotificationSettings.model_validate_json(notification)
    name = run_name or run_id
    context = StepContext(
        store=store, store_settings=_STORE, run_name=name, tracking_uri=tracking_uri, experiment=experiment
    ).in_this_task()
    try:
        ending = find_ending(context.open_store(), name, state, error)
        end_run(context.open_store(), name, ending.status)
        untold = finish_parent(context, ending.status)
    except StoreError as failed:
        ending = Ending(status=_OF_KFP.get(state, FAILED), error=error, trouble=str(failed))
        untold = []
    print(f"run {name}: {ending.model_dump_json(indent=1)}")
    try:
        if event_of(ending) in settings.events:
            told = notify(*words(name, run_id, ending, settings), settings)
            print("told by:", ", ".join(told) or "nothing is set up")
    finally:
        if untold:
            print("\n".join(finish_parent(context, ending.status, _MLFLOW_PATIENCE)) or "MLflow has everything now")
    return ending


def find_ending(store: Store, run: str, state: str, error: str) -> Ending:
    """How the run ended: by KFP's word, and where that says neither, by whether the run closed itself."""
    record = read_run(store, run)
    ended = record.status if record and record.ended else ""
    status = _OF_KFP.get(state) or (FINISHED if ended == FINISHED else FAILED)
    if status != FINISHED:
        return Ending(status=status, step=step_at_work(store, run) if record else "validation", error=error)
    results = _promotion(store, run)
    promoted = bool(results["promoted"]) if results else None
    return Ending(status=status, promoted=promoted, reason=str(results.get("reason", "")))


def event_of(ending: Ending) -> str:
    """What there is to tell, empty if nothing."""
    if ending.status == FAILED:
        return "failure"
    return "no_promotion" if ending.status == FINISHED and ending.promoted is False else ""


def words(name: str, run_id: str, ending: Ending, settings: NotificationSettings) -> tuple[str, str, dict[str, object]]:
    """(subject, body, facts) of the notice."""
    if ending.status == FAILED:
        where = f" in {ending.step}" if ending.step else ""
        subject = f"DeepVideo-R1: run {name} failed{where}"
        lines = [ending.error or "The log of that task says why.", ending.trouble]
        lines.append("Retry the run, or start it again under the same name: what is finished is not done again.")
    else:
        subject = f"DeepVideo-R1: run {name} ended without a promotion"
        lines = [ending.reason]
    if settings.ui_url:
        lines.append(f"{settings.ui_url.rstrip('/')}/#/runs/details/{run_id}")
    facts = {"run": name, "run_id": run_id, **ending.model_dump()}
    return subject, "\n".join(filter(None, lines)), facts


def _promotion(store: Store, run: str) -> dict[str, object]:
    """The results of the run's last promotion, empty if there is none."""
    keys = [key for key in work_of_run(store, run) if key.startswith("promotion-")]
    found = store.read_objects([f"{LEDGER}/{key}.json" for key in keys])
    records = [LedgerRecord.model_validate_json(raw) for raw in found.values() if raw]
    return max(records, key=lambda record: record.work.finished).outputs.results if records else {}
