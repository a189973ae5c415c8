"""How far the run is, what the stop rules look at, and when they stop it.

The training state that travels from round to round is `progress.json`, Adam's moments, and fp32 masters where the
policy's files do not hold them: where they are not fp32, and of a LoRA adapter, which they hold merged. Nothing in
training draws from a global random generator (dropout is off, the order of groups is keyed by seed and round), so there
is none to save.
"""

from __future__ import annotations

from pathlib import Path

from components.shared.files import write_atomic
from components.shared.schemas import Record
from components.training.settings import TrainingSettings

PROGRESS = "progress.json"


class Adapter(Record):
    """A LoRA adapter, as far as it is the same in all rounds of a run."""

    base: str  # digest of the policy that it stands on, the run's first
    r: int
    alpha: int
    target_modules: tuple[str, ...]

    @classmethod
    def of(cls, settings: TrainingSettings, base: str) -> Adapter | None:
        """The one that the settings ask for; None for full training."""
        if not settings.lora_r:
            return None
        modules = tuple(sorted(settings.lora_target_modules))
        return cls(base=base, r=settings.lora_r, alpha=settings.lora_alpha, target_modules=modules)


class RoundSummary(Record):
    """What the stop rules look at."""

    round: int
    reward: float  # mean over the round's responses
    kl: float | None  # of the last optimizer step, None if there was no reference
    entropy: float | None  # of the last optimizer step


class Progress(Record):
    """How far the run is. `policy` is the digest of the policy that the state belongs to, empty before training."""

    global_step: int = 0  # optimizer steps tried
    optimizer_steps: int = 0  # of these, applied: Adam's own count
    num_tokens: int = 0
    policy: str = ""
    adapter: Adapter | None = None  # None in full training
    history: tuple[RoundSummary, ...] = ()
    stop_reason: str = ""


def read_progress(folder: Path) -> Progress:
    """The progress in a state folder; that of an untrained policy if the folder has none."""
    path = folder / PROGRESS
    return Progress.model_validate_json(path.read_text()) if path.is_file() else Progress()


def write_progress(folder: Path, progress: Progress) -> None:
    """Write `progress.json`."""
    write_atomic(folder / PROGRESS, progress.model_dump_json(indent=1))


def stop_reason(history: tuple[RoundSummary, ...], settings: TrainingSettings) -> str:
    """Why the run should end after the last round of `history`; empty if it should go on."""
    last = history[-1]
    best = max(history, key=lambda item: item.reward)  # the first of equals
    if settings.stop_kl and last.kl is not None and last.kl > settings.stop_kl:
        return f"round {last.round}: KL {last.kl:.4g} is above stop_kl {settings.stop_kl:g}"
    if settings.stop_entropy and last.entropy is not None and last.entropy < settings.stop_entropy:
        return f"round {last.round}: entropy {last.entropy:.4g} is below stop_entropy {settings.stop_entropy:g}"
    if settings.stop_reward_drop and best.reward - last.reward > settings.stop_reward_drop:
        return (
            f"round {last.round}: mean reward {last.reward:.4g} is more than stop_reward_drop"
            f" {settings.stop_reward_drop:g} below round {best.round}'s {best.reward:.4g}"
        )
    without = len(history) - 1 - history.index(best)
    if settings.stop_reward_patience and without >= settings.stop_reward_patience:
        return f"round {last.round}: no mean reward above round {best.round}'s {best.reward:.4g} for {without} rounds"
    return ""
