"""The stages of training: what the cells show, dense captions, questions, then noise on the answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from components.ingest.moving_shapes.scenes import COLORS, SHAPES, Scene
from components.ingest.tiny_model import forward
from components.ingest.tiny_model.rows import Emphasis, Encoder, Pairs, Pool, Rows, cell_labels, pad_rows

# scenes and their frames to the frames shown and the rows to learn
Lesson = Callable[[list[Scene], np.ndarray, np.random.Generator], tuple[np.ndarray, Pairs]]
Report = Callable[[float], None]  # takes the step's loss


@dataclass(frozen=True)
class Stage:
    """How long a stage runs and how fast it learns: the rate warms up over `warmup` steps, then falls as a cosine."""

    steps: int
    videos: int  # a step, in each process
    rate: float  # of AdamW
    muon_rate: float = 5e-3
    warmup: int = 50
    final: float = 0.05  # of `rate`
    weight_decay: float = 0.01
    emphasis: Emphasis = Emphasis()

    def scale(self, step: int) -> float:
        """The factor on `rate` at `step`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * part))


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = nn.utils.parameters_to_vector(gradients)
    dist.all_reduce(flat)
    nn.utils.vector_to_parameters(flat / dist.get_world_size(), gradients)


def _optimizers(stage: Stage, parameters: list[nn.Parameter], matrices: list[nn.Parameter]) -> list[Optimizer]:
    hidden = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in parameters if id(parameter) not in hidden]
    return [
        torch.optim.AdamW(rest, lr=stage.rate, betas=(0.9, 0.98), weight_decay=stage.weight_decay),
        torch.optim.Muon(
            matrices, lr=stage.muon_rate, weight_decay=stage.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
    ]


def _run(
    stage: Stage,
    parameters: list[nn.Parameter],
    matrices: list[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    report: Report,
) -> None:
    optimizers = _optimizers(stage, parameters, matrices)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, stage.scale) for optimizer in optimizers]
    for step in range(stage.steps):
        loss = loss_of(step)
        loss.backward()
        _average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        report(loss.item())


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """The hidden weight matrices, which Muon updates; embeddings, norms, biases and patches are AdamW's."""
    return [p for name, p in module.named_parameters() if p.ndim == 2 and "embed_tokens" not in name]


def _choose(pool: Pool, count: int, rng: np.random.Generator) -> tuple[list[Scene], np.ndarray]:
    chosen = rng.integers(len(pool.scenes), size=count)
    return [pool.scenes[i] for i in chosen], pool.frames[chosen]


def train_vision(model: Any, pool: Pool, stage: Stage, rng: np.random.Generator, report: Report) -> None:
    """Let the vision tower alone name what each token's square shows; the head that reads it off is thrown away."""
    combinations = len(SHAPES) * len(COLORS)
    head = nn.Linear(model.config.text_config.hidden_size, 2 * (combinations + 2 * len(SHAPES)))

    def loss_of(step: int) -> Tensor:
        scenes, frames = _choose(pool, stage.videos, rng)
        cover, center = (torch.from_numpy(label) for label in cell_labels(scenes))
        out = head(forward.video_features(model.model.visual, forward.patches(frames))).unflatten(-1, (2, -1))
        where = out[..., combinations:].unflatten(-1, (len(SHAPES), 2))
        present = ~center.isnan()
        squared = (where - center.nan_to_num())[present].square().mean()
        return F.binary_cross_entropy_with_logits(out[..., :combinations], cover) * 10 + squared

    visual = model.model.visual
    _run(stage, [*visual.parameters(), *head.parameters()], _matrices(visual), loss_of, report)


def language_loss(model: Any, encoder: Encoder, rows: Rows, features_BVD: Tensor) -> Tensor:
    """Weighted mean cross-entropy over the response tokens of `rows`."""
    hidden = forward.hidden_states(model, rows.ids_RL, features_BVD[rows.video], encoder.before, rows.positions_3RL)
    target = rows.labels_RL[:, 1:]
    logits = model.lm_head(hidden[:, :-1][target >= 0])
    weights = rows.weights_RL[:, 1:][target >= 0]
    return (F.cross_entropy(logits, target[target >= 0], reduction="none") * weights).sum() / weights.sum()


def train_language(
    model: Any,
    encoder: Encoder,
    pool: Pool,
    stage: Stage,
    lesson: Lesson,
    rng: np.random.Generator,
    report: Report,
) -> None:
    """Learn what `lesson` gives for the scenes and frames of each step, long rows and short rows apart."""

    def loss_of(step: int) -> Tensor:
        frames, pairs = lesson(*_choose(pool, stage.videos, rng), rng)
        pairs = sorted(pairs, key=lambda p: len(p[0]) + len(p[1]))
        features = forward.video_features(model.model.visual, forward.patches(frames))
        half = len(pairs) // 2
        halves = (pairs[:half], pairs[half:])
        parts = [pad_rows(encoder, part, stage.emphasis) for part in halves]
        return torch.stack([language_loss(model, encoder, part, features) for part in parts]).mean()

    _run(stage, list(model.parameters()), _matrices(model), loss_of, report)
