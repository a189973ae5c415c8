"""The spool: what is to be written into MLflow waits in the artifact store until MLflow has taken it.

A step leaves its packet there first, and then sends all that waits, the oldest first, for a limited time: it goes on if
MLflow is away, and a later step or the run's end sends the rest. A packet is deleted once it was sent; after a kill in
between it is sent again, which adds nothing to what is there.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence

from components.shared.context import StepContext
from components.shared.runs import run_folder
from components.shared.store import Store
from components.shared.tracking.client import brief, may_pass, open_client, with_retries
from components.shared.tracking.entries import Entry, Packet
from components.shared.tracking.sending import send_packet

_LONGEST = 60.0  # seconds that a step waits for MLflow
_PAUSE = 5.0  # seconds
_one_at_a_time = threading.Lock()  # a try that was abandoned may go on, and must not meet the next one


class TrackingWarning(UserWarning):
    """Something could not be written to MLflow, or not yet."""


def leave(context: StepContext, entries: Sequence[Entry], name: str = "") -> None:
    """Put entries into the run's spool as one packet; one of the same `name` is replaced (default: a new one)."""
    if context.tracking_uri:
        packet = Packet(context=context, entries=tuple(entries))
        place = f"{_folder(context)}/{name or packet_name()}"
        context.open_store().write_object(place, packet.model_dump_json().encode())


def packet_name() -> str:
    """A name that sorts after those given before."""
    return f"{time.time_ns():020d}"


def waiting(context: StepContext) -> list[str]:
    """The packets in the run's spool, the oldest first."""
    return context.open_store().list_objects(_folder(context))


def send(context: StepContext, seconds: float = _LONGEST) -> list[str]:
    """Send what waits in the run's spool, for at most `seconds`. Returns warnings: also of what still waits, and why."""
    if not context.tracking_uri or not (names := waiting(context)):
        return []
    told: list[str] = []
    failed: list[str] = []
    # a server that accepts and never answers would hold the step; an abandoned try is as good as a killed one
    sender = threading.Thread(target=_send_all, args=(context, names, told, failed), daemon=True)
    sender.start()
    sender.join(seconds)
    if sender.is_alive():
        failed.append(f"it is slow: not done within {seconds:.0f} s")
    if failed and (left := waiting(context)):
        where = context.open_store().uri_of(_folder(context))
        told.append(f"{failed[-1]}; packets that wait in {where} to be sent later: {len(left)}")
    for text in told:
        warnings.warn(f"MLflow: {text}", TrackingWarning, stacklevel=2)
    return told


def send_patiently(context: StepContext, seconds: float) -> list[str]:
    """`send`, again and again for at most `seconds` while something waits."""
    deadline = time.monotonic() + seconds
    while True:
        told = send(context, max(1.0, deadline - time.monotonic()))
        if not context.tracking_uri or not waiting(context) or time.monotonic() + _PAUSE > deadline:
            return told
        time.sleep(_PAUSE)


def _send_all(context: StepContext, names: Sequence[str], told: list[str], failed: list[str]) -> None:
    store = context.open_store()
    with _one_at_a_time:
        for name in names:
            try:
                told += _send_one(context, store, name)
            except Exception as error:
                failed.append(brief(error))
                if may_pass(error):  # the next would fare no better; what is refused is kept and holds nothing up
                    return


def _send_one(context: StepContext, store: Store, name: str) -> list[str]:
    raw = store.read_object(name)
    if raw is None:  # sent by another
        return []
    packet = Packet.model_validate_json(raw)
    client = open_client(context.tracking_uri)
    told = with_retries(lambda: send_packet(client, packet))
    store.delete_objects(name)
    return told


def _folder(context: StepContext) -> str:
    return f"{run_folder(context.run_name)}/spool"
