"""The curves of figure 3 and of what training does to the policy, as small SVG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np

from tests.benchmarks.study.arms import ARMS, GRPO_AUG, GRPO_NAME, REG, REG_AUG
from tests.benchmarks.study.comparisons import Runs
from tests.benchmarks.study.records import RoundFigures

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of backend

_MAIN = (GRPO_NAME, GRPO_AUG, REG, REG_AUG)
CURVES: dict[str, tuple[str, Callable[[RoundFigures], float | None]]] = {
    "reward": ("mean reward of the samples as they are", lambda item: item.reward_unaugmented),
    "all_equal": ("share of trained groups with all-equal rewards", lambda item: item.all_equal),
    "rho_std": ("standard deviation of rho in a group, last step", lambda item: item.rho_std),
    "kl": ("KL to the base, nats a token, last step", lambda item: item.kl),
}


def draw(runs: Runs, folder: Path) -> list[str]:
    """Write a file a curve of the main arms over sampled responses: mean over seeds, and the seeds' standard deviation."""
    arms, written = [name for name in _MAIN if runs.get(name)], list[str]()
    for name, (label, value) in CURVES.items() if arms else ():
        figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
        for number, arm in enumerate(arms):
            grid, mean, deviation = curve([run.rounds for run in runs[arm]], value)
            axes.plot(grid, mean, marker=".", color=f"C{number}", label=ARMS[arm].label)
            axes.fill_between(grid, mean - deviation, mean + deviation, color=f"C{number}", alpha=0.15, linewidth=0)
        axes.set_xlabel("sampled responses before the round")
        axes.set_ylabel(label, fontsize="small")
        axes.legend(fontsize="small")
        plt.rcParams["svg.hashsalt"] = "study"  # equal figures give equal files
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        written.append(f"{name}.svg")
    return written


def curve(
    runs: list[tuple[RoundFigures, ...]], value: Callable[[RoundFigures], float | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Responses sampled before each round, and the mean and standard deviation over runs of a round's figure.

    Up to the shortest run's last round; where seeds have sampled different numbers, the mean number.
    """
    rounds = min(len(items) for items in runs)
    spent = np.array([[sum(one.responses for one in items[:k]) for k in range(rounds)] for items in runs])
    found = np.array([[value(item) for item in items[:rounds]] for items in runs], dtype=np.float64)
    return spent.mean(0), found.mean(0), found.std(0)
