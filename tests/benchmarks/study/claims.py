"""The paper's claims that its tables make, as pairs of arms, with the paper's own figures (arXiv 2506.07464)."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.study.arms import BASE, GRPO_AUG, GRPO_NAME, REG, REG_AUG, SFT

LEVELS = ("L1", "L2", "L3")
Scores = tuple[float, float, float]  # L1, L2, L3, in per cent

# SEED-Bench-R1, Qwen2.5-VL-3B
PAPER: dict[str, Scores] = {
    BASE: (31.3, 32.7, 28.2),
    SFT: (35.9, 39.1, 33.7),
    "dpo": (35.8, 35.2, 30.8),
    "online_dpo": (37.1, 38.1, 31.9),
    "reinforce": (37.0, 39.5, 32.3),
    "rloo": (35.0, 37.4, 31.3),
    "rebel": (41.8, 43.7, 38.0),
    "reward_regression": (32.5, 33.1, 28.3),
    GRPO_NAME: (39.6, 41.0, 35.4),
    GRPO_AUG: (41.7, 42.5, 36.6),
    REG: (44.2, 44.2, 39.5),
    REG_AUG: (48.1, 51.1, 44.0),
    "absolute": (47.9, 50.1, 40.7),
    "harder_only": (45.3, 46.9, 40.0),
    "easier_only": (45.3, 47.3, 41.6),
    "fixed": (46.8, 48.6, 43.0),
}


@dataclass(frozen=True)
class Claim:
    """`better` scores above `worse`."""

    text: str
    better: str
    worse: str

    def in_paper(self, level: str) -> float | None:
        """The paper's difference in points, None where it has no figure of one of them."""
        if self.better not in PAPER or self.worse not in PAPER:
            return None
        index = LEVELS.index(level)
        return PAPER[self.better][index] - PAPER[self.worse][index]


CLAIMS = (
    Claim("Reg-GRPO with augmentation is better than the base", REG_AUG, BASE),
    Claim("Reg-GRPO with augmentation is better than GRPO", REG_AUG, GRPO_NAME),
    Claim("Reg-GRPO with augmentation is better than SFT", REG_AUG, SFT),
    Claim("Reg-GRPO is better than GRPO", REG, GRPO_NAME),
    Claim("Reg-GRPO is better than GRPO, both with augmentation", REG_AUG, GRPO_AUG),
    Claim("augmentation helps Reg-GRPO", REG_AUG, REG),
    Claim("augmentation helps GRPO", GRPO_AUG, GRPO_NAME),
    Claim("GRPO is better than SFT", GRPO_NAME, SFT),
    Claim("Reg-GRPO is better than DPO", REG, "dpo"),
    Claim("Reg-GRPO is better than online DPO", REG, "online_dpo"),
    Claim("Reg-GRPO is better than REINFORCE", REG, "reinforce"),
    Claim("Reg-GRPO is better than RLOO", REG, "rloo"),
    Claim("Reg-GRPO is better than REBEL", REG, "rebel"),
    Claim("Reg-GRPO is better than reward regression", REG, "reward_regression"),
    Claim("relative difficulty is better than absolute", REG_AUG, "absolute"),
    Claim("both sides of augmentation are better than easy made harder only", REG_AUG, "harder_only"),
    Claim("both sides of augmentation are better than hard made easier only", REG_AUG, "easier_only"),
    Claim("levels by difficulty are better than fixed ones", REG_AUG, "fixed"),
)
