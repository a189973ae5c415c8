"""The table of rewards, one's own by import path, and the weighted sum."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from components.shared.files import sha256_file
from components.shared.rewards.accuracy import accuracy_reward
from components.shared.rewards.answers import Fallback
from components.shared.rewards.format import format_reward
from components.shared.rewards.iou import has_spans, iou_reward
from components.shared.schemas import Sample

RewardFunction = Callable[[Sample, str, Collection[Fallback]], float]


_EQUAL: Mapping[str, float] = {}  # every reward weighs 1


class RewardError(ValueError):
    """A reward cannot be used, or gave a value that is no reward. The message names it."""


@dataclass(frozen=True)
class Reward:
    """A reward in [0, 1] and the samples it applies to."""

    function: RewardFunction
    applies: Callable[[Sample], bool] = lambda sample: True


def _strict(function: Callable[[Sample, str], float]) -> RewardFunction:
    """A reward that reads the response by itself: fall-backs do not touch it."""
    return lambda sample, text, fallbacks: function(sample, text)


BUILT_IN: dict[str, Reward] = {
    "format": Reward(_strict(format_reward)),
    "accuracy": Reward(accuracy_reward),
    "iou": Reward(iou_reward, applies=has_spans),
}


def check_names(names: Sequence[str]) -> None:
    """Raise RewardError for an unknown or repeated name. Nothing is imported."""
    for name in names:
        module, colon, function = name.partition(":")
        path = [*module.split("."), function]
        if name not in BUILT_IN and not (colon and all(part.isidentifier() for part in path)):
            known = ", ".join(sorted(BUILT_IN))
            raise RewardError(
                f"rewards.reward_funcs: {name!r} is neither one of {known} nor a path `package.module:function`"
            )
    if len(set(names)) < len(names):
        raise RewardError(f"rewards.reward_funcs: a name appears twice in {list(names)}")


def check_weights(names: Sequence[str], weights: Mapping[str, float]) -> None:
    """Raise RewardError unless each weight is of a named reward, finite and >= 0, and one is above 0."""
    if unknown := sorted(set(weights) - set(names)):
        raise RewardError(f"rewards.reward_weights: {unknown} are not among reward_funcs {list(names)}")
    values = [weights.get(name, 1.0) for name in names]
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise RewardError(
            f"rewards.reward_weights: {dict(weights)} must be finite and not negative, at least one above 0"
        )


def check_rewards(names: Sequence[str], weights: Mapping[str, float] = _EQUAL) -> None:
    """Find every reward and check every weight, before any work starts. Raises RewardError, which names the culprit."""
    check_names(names)
    check_weights(names, weights)
    for name in names:
        find_reward(name)


@functools.cache
def find_reward(name: str) -> Reward:
    """The reward of a name; one's own is imported. Raises RewardError if that fails or it takes not (sample, text)."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    check_names([name])
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise RewardError(
            f"rewards.reward_funcs: {name!r}: cannot import {module_name!r} ({error}); install it where the step runs"
        ) from error
    except AttributeError:
        raise RewardError(f"rewards.reward_funcs: {name!r}: module {module_name!r} has no {function_name!r}") from None
    if not callable(function):
        raise RewardError(f"rewards.reward_funcs: {name!r} is not a function")
    try:
        inspect.signature(function).bind(None, "")
    except TypeError as error:
        raise RewardError(f"rewards.reward_funcs: {name!r} must take (sample, text): {error}") from None
    return Reward(_strict(function))


def reward_versions(names: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of the file of each of one's own rewards: changed code is different work."""
    own = [name for name in names if name not in BUILT_IN]
    modules = {name: importlib.import_module(name.partition(":")[0]) for name in own}
    return {name: sha256_file(Path(module.__file__)) for name, module in modules.items() if module.__file__}


def score(
    sample: Sample,
    text: str,
    names: Sequence[str],
    weights: Mapping[str, float] = _EQUAL,
    fallbacks: Collection[Fallback] = (),
) -> tuple[dict[str, float], float]:
    """Each reward of a response by name, and their weighted sum. What does not apply to the sample is left out.

    A name without a weight weighs 1. `fallbacks` loosen how accuracy and iou find the answer (`answers.find_answer`).
    Raises RewardError, naming reward and sample, if one's own reward fails or gives no number in [0, 1].
    """
    applicable = _applicable(sample, names, weights)
    rewards = {name: _value(name, sample, text, fallbacks) for name in applicable}
    return rewards, math.fsum(weight * rewards[name] for name, weight in applicable.items())


def max_reward(sample: Sample, names: Sequence[str], weights: Mapping[str, float] = _EQUAL) -> float:
    """The largest sum that a response to the sample can earn: what rewards are divided by before tasks are compared.

    Raises RewardError if no reward of positive weight applies to the sample.
    """
    largest = math.fsum(_applicable(sample, names, weights).values())
    if largest <= 0:
        raise RewardError(
            f"rewards.reward_funcs: none of {list(names)} gives sample {sample.id} ({sample.task}) any reward"
        )
    return largest


def _applicable(sample: Sample, names: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weights.get(name, 1.0) for name in names if find_reward(name).applies(sample)}


def _value(name: str, sample: Sample, text: str, fallbacks: Collection[Fallback]) -> float:
    try:
        value = find_reward(name).function(sample, text, fallbacks)
    except Exception as error:
        raise RewardError(f"reward {name!r} failed on sample {sample.id}: {type(error).__name__}: {error}") from error
    if not isinstance(value, Real) or not 0 <= value <= 1:  # NaN is not in between either
        raise RewardError(f"reward {name!r} gave {value!r} on sample {sample.id}; it must be a number from 0 to 1")
    return float(value)
