"""What the launching step and its nodes tell each other: small objects in the artifact store, beside the work's checkpoints.

work/<key>/trainjob/work.json      what is to be trained
work/<key>/trainjob/alive          written anew every minute while the launching step lives
work/<key>/trainjob/trained.json   what came out; with the work's other objects deleted when it is in the ledger
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from components.shared.ledger import UNFINISHED, code_version
from components.shared.schemas import Record
from components.shared.store import Store, StoreError
from components.training.results import Trained
from components.training.spec import Work
from components.training.trainjob.nodes import TrainJobError

log = logging.getLogger(__name__)

BEAT = 60.0  # seconds between signs of life
PATIENCE = 15  # signs in a row that may be missing: longer than a retry of the launching step takes to come


class _HandedOver(Record):
    work: Work
    code: str  # digest of the launching step's code


def hand_over(store: Store, work: Work) -> None:
    """Let nodes find the work by its key."""
    store.write_object(
        _name(work.key, "work.json"), _HandedOver(work=work, code=code_version()).model_dump_json().encode()
    )


def take_over(store: Store, key: str) -> Work:
    """The work with that key. Raises TrainJobError if there is none, or if this node runs other code."""
    raw = store.read_object(_name(key, "work.json"))
    if raw is None:
        raise TrainJobError(f"{store.uri_of(_name(key, 'work.json'))}: is not there: was the work finished meanwhile?")
    found = _HandedOver.model_validate_json(raw)
    if found.code != code_version():
        raise TrainJobError(
            "this node's image has other code than the launching step's: build and push all images of one version, or name"
            " them by digest (DEEPVIDEO_REGISTRY at compile time)"
        )
    return found.work


def write_trained(store: Store, key: str, trained: Trained) -> None:
    """Hand the result back."""
    store.write_object(_name(key, "trained.json"), trained.model_dump_json().encode())


def read_trained(store: Store, key: str) -> Trained | None:
    """The result, None if there is none yet."""
    raw = store.read_object(_name(key, "trained.json"))
    return Trained.model_validate_json(raw) if raw else None


@contextmanager
def signs_of_life(store: Store, key: str) -> Iterator[None]:
    """Let nodes see that somebody waits for them, while the block runs."""
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.is_set():
            try:
                store.write_object(_name(key, "alive"), str(time.time_ns()).encode())
            except StoreError as error:  # the nodes wait for some time
                log.warning("no sign of life could be written: %s", error)
            stopped.wait(BEAT)

    thread = threading.Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def watch(store: Store, key: str, lost: Callable[[], None]) -> None:
    """Call `lost` once the launching step has given no sign of life for long: a job that nobody waits for holds its GPUs.

    Only what could be read counts, so that a store that is away ends nothing.
    """

    def look() -> None:
        seen, missing = b"", 0
        while missing < PATIENCE:
            time.sleep(BEAT)
            try:
                found = store.read_object(_name(key, "alive")) or b""
            except StoreError:
                continue
            missing = missing + 1 if found == seen else 0
            seen = found
        lost()

    threading.Thread(target=look, name="watch", daemon=True).start()


def _name(key: str, what: str) -> str:
    return f"{UNFINISHED}/{key}/trainjob/{what}"
