"""What every step is told besides its inputs and settings: where the store is, the seed, the round, the run."""

from __future__ import annotations

import functools
import os

import numpy as np

from components.shared.files import sha256_bytes
from components.shared.ledger import Ledger
from components.shared.schemas import Record
from components.shared.sharding import WHOLE, Shard
from components.shared.store import Store, StoreSettings, open_store


class StepContext(Record):
    """Passed to every step as one JSON value. `round` is 0 outside rounds and counts from 1 inside."""

    store: str
    store_settings: StoreSettings = StoreSettings()
    seed: int = 0
    round: int = 0
    run_name: str = "run"
    tracking_uri: str = ""  # MLflow's; empty: nothing is tracked
    experiment: str = "deepvideo"
    parent_run_id: str = ""  # MLflow's id of the pipeline run's own run
    task_run_id: str = ""  # MLflow's id of the run that Kubeflow hands down to this task
    shard: Shard = WHOLE  # which of the step's chunks this task makes

    def in_this_task(self) -> StepContext:
        """With the MLflow run that Kubeflow hands down to this task, if it does (MLFLOW_RUN_ID).

        To be called before anything uses MLflow's fluent API, which deletes the variable; what a step starts on other
        processes or machines is told by the context.
        """
        handed = os.environ.get("MLFLOW_RUN_ID", "")
        uri = os.environ.get("MLFLOW_TRACKING_URI", "") if handed else ""
        return self.model_copy(update={"task_run_id": handed, "tracking_uri": self.tracking_uri or uri})

    def open_store(self) -> Store:
        """The artifact store of this run."""
        return open_store(self.store, self.store_settings)

    def open_ledger(self) -> Ledger:
        """The ledger in this run's store."""
        return Ledger(self.open_store(), self.run_name, self.round, self.shard)


@functools.cache
def _words(seed: int, round_index: int, name: str, purpose: str) -> tuple[int, ...]:
    digest = sha256_bytes(f"{seed}\0{round_index}\0{name}\0{purpose}".encode())
    return tuple(int(digest[i : i + 8], 16) for i in range(0, 32, 8))


def generator(seed: int, round_index: int, name: str, purpose: str) -> np.random.Generator:
    """A Philox generator keyed by (seed, round, name, purpose); never by a run's id."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(_words(seed, round_index, name, purpose))))


def derived_seed(seed: int, round_index: int, name: str, purpose: str) -> int:
    """A seed in [0, 2^31 - 2^16) keyed by (seed, round, name, purpose): there is room to add a response's index."""
    return _words(seed, round_index, name, purpose)[0] % (2**31 - 2**16)
