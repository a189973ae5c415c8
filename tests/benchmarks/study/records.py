"""What a run leaves, as one small JSON file, and how a rerun knows whether it is still that run's."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import components
from components.shared.files import sha256_bytes, sha256_file, write_atomic
from components.shared.schemas import Record

# The code that a run's figures depend on; what arms change is in the settings, pages and plots are made anew.
_COMPONENTS = (
    *("augmentation", "difficulty", "evaluation", "ingest/moving_shapes", "rollout", "shared", "training"),
    "../pipelines/fused_sampling",
)
_NOT_NUMBERS = (
    "evaluation/benchmarks",
    *(f"shared/{name}" for name in ("tracking", "store", "lineage")),
    *(f"shared/{name}.py" for name in ("face", "images", "ledger", "processes", "progress", "runs")),
    "training/trainjob",
    *(
        f"shared/generation/{name}" for name in ("quiet.py", "transformers_engine.py", "vllm_")
    ),  # it has an engine of its own
    # a step's own frame, which a run of the study goes without
    *(f"evaluation/{name}.py" for name in ("champion", "step")),
    *(f"training/{name}.py" for name in ("checks", "launch", "results", "round", "spec", "step", "worker")),
)
_OWN = ("budget", "decoding", "features", "rounds", "run", "sampler", "sft", "trainer", "workplace")


class Level(Record):
    """A level's answers, question by question in the order of `Questions`. Figures are shares of 1."""

    sampled: tuple[float, ...]  # mean accuracy (IoU for temporal grounding) of the sampled answers
    greedy: tuple[float, ...]  # of the greedy answer
    parsed: tuple[float, ...]  # share of the sampled answers that could be read


class Questions(Record):
    """Which questions a level's figures are about: their ids and, in the same order, their videos."""

    ids: dict[str, tuple[str, ...]]
    videos: dict[str, tuple[str, ...]]


class RoundFigures(Record):
    """One round. Rewards are weighted sums; `unaugmented` ones are of the round's samples as they are.

    None stands for what is not finite or not defined.
    """

    round: int
    prompts: int
    responses: int  # sampled in this round, hints and all
    optimizer_steps: int
    reward: float
    reward_unaugmented: float
    all_equal: float  # share of the trained groups whose advantages vanish
    all_equal_unaugmented: float
    hinted: int
    noised: int
    kl: float | None  # of the last optimizer step, nats a token
    rho_std: float | None  # of the last optimizer step, mean over groups
    entropy: float | None
    grad_norm: float | None  # mean over the round's finite ones, before clipping


class Evaluated(Record):
    """A policy's answers, and how far its run was."""

    responses: int
    optimizer_steps: int
    levels: dict[str, Level]


class RunRecord(Record):
    """One run. `at_responses` is the policy at the budget of responses, `at_updates` that of optimizer steps."""

    key: str
    arm: str
    seed: int
    learning_rate: float | None
    at_responses: Evaluated
    at_updates: Evaluated | None
    rounds: tuple[RoundFigures, ...] = ()
    seconds: dict[str, float] = {}  # of one core, by part


def accuracy(evaluated: Evaluated, level: str, figure: str = "sampled") -> float:
    """The mean over a level's questions."""
    values: Sequence[float] = getattr(evaluated.levels[level], figure)
    return sum(values) / len(values)


@functools.cache
def code_version() -> str:
    """Digest of the code that a run's numbers depend on."""
    root, own = Path(components.__file__).parent, Path(__file__).parent
    files = [path for name in _COMPONENTS for path in sorted((root / name).rglob("*.py"))]
    files = [path for path in files if not path.relative_to(root).as_posix().startswith(_NOT_NUMBERS)]
    files = [path for path in files if path.name != "component.py"]  # KFP's faces
    files += [own / f"{name}.py" for name in _OWN]
    return sha256_bytes(*(f"{path.name}\0{sha256_file(path)}\n".encode() for path in files))


def run_key(**parts: object) -> str:
    """The key of a run: a digest over all that its numbers depend on, the code included."""
    return sha256_bytes(json.dumps({**parts, "code": code_version()}, sort_keys=True).encode())[:32]


def read(path: Path, key: str | None = None) -> RunRecord | None:
    """The run in a file; None if there is none, or if `key` is given and it is another's."""
    if not path.is_file():
        return None
    found = RunRecord.model_validate_json(path.read_text())
    return found if key in (None, found.key) else None


def write(path: Path, found: RunRecord) -> None:
    """Write the run as a whole, a line a part, so that a diff shows which one changed."""
    fields: Mapping[str, object] = found.model_dump(mode="json")
    body = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    write_atomic(path, f"{{\n{body}\n}}\n")
