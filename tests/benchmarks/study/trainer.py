"""A run's training in this process: the pipeline's groups, losses and steps, with PyTorch's AdamW in DeepSpeed's place."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.shared.dataset import DatasetReader
from components.shared.schemas import Group
from components.training.checkpoint import Position
from components.training.distributed import Place
from components.training.forward import PackedPolicy
from components.training.minibatches import Minibatch, plan
from components.training.optimizer_steps import OptimizerSteps, Scored
from components.training.packing import packed_tokens
from components.training.policy import parameter_names, trainable, write_policy
from components.training.prepare import Prepared, Preparer
from components.training.settings import TrainingSettings
from components.training.state import Progress

ALONE = Place(rank=0, world_size=1, device=torch.device("cpu"))


class PlainEngine:
    """As much of DeepSpeed's engine as the optimizer steps use: gradients summed in fp32, clipped, AdamW."""

    def __init__(self, module: nn.Module, parameters: Sequence[nn.Parameter], settings: TrainingSettings) -> None:
        self.module, self.parameters, self.settings = module, parameters, settings
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.last_norm, self.applied = torch.zeros(()), True

    def __call__(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        """Nothing to do: gradients are summed until `step`."""

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient."""
        loss.backward()

    def step(self) -> None:
        """Clip, and change the weights; a gradient that is not finite changes nothing."""
        limit = self.settings.max_grad_norm or torch.inf
        self.last_norm = nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True)
        self.applied = bool(self.last_norm.isfinite())
        if self.applied:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def was_step_applied(self) -> bool:
        """Whether the last step changed the weights."""
        return self.applied

    def get_global_grad_norm(self) -> float:
        """The last step's gradient norm before clipping."""
        return float(self.last_norm)


class Trainer:
    """One run's policy, optimizer and reference, from round to round."""

    def __init__(self, policy: PackedPolicy, base: Path, processor: Any, settings: TrainingSettings, seed: int) -> None:
        """`policy` holds the weights of the folder `base`, the run's first policy, and is trained in place."""
        if not torch.distributed.is_initialized():  # the optimizer steps sum their metrics over all processes
            file = Path(tempfile.mkdtemp(prefix="study-")) / "store"
            torch.distributed.init_process_group("gloo", init_method=f"file://{file}", world_size=1, rank=0)
        self.policy, self.base, self.processor = policy, base, processor
        self.settings, self.seed = settings, seed
        self.names, self.parameters = parameter_names(policy.model, base), trainable(policy.model)
        self.first = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.engine = PlainEngine(policy, list(self.parameters.values()), settings)
        self.progress = Progress()

    def train(self, groups: Sequence[Group], reader: DatasetReader, round_index: int) -> list[dict[str, float | None]]:
        """Train on a round's groups as the pipeline's training step does; returns the metrics of every optimizer step."""
        dealt = self._plan(groups, round_index)
        steps = OptimizerSteps(
            self.engine,
            self._scored(self._prepared(groups, reader, dealt)),
            [step.groups for step in dealt],
            [sum(self._tokens(groups[index]) for index in step.indices()) for step in dealt],
            self.settings,
            ALONE,
            self.progress,
            Position(optimizer_steps=self.progress.optimizer_steps),
        )
        while steps.position.next_step < steps.total:
            steps.step()
        self.progress = self.progress.model_copy(
            update={
                "global_step": self.progress.global_step + steps.total,
                "optimizer_steps": steps.position.optimizer_steps,
                "num_tokens": self.progress.num_tokens + steps.position.num_tokens,
            }
        )
        return list(steps.position.metrics)

    def write(self, target: Path) -> Path:
        """Write the policy into the new folder `target`."""
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        write_policy(self.base, target, self.names, weights)
        return target

    def _plan(self, groups: Sequence[Group], round_index: int) -> tuple[Minibatch, ...]:
        return plan(
            [
                packed_tokens(len(group.prompt_token_ids), [len(r.token_ids) for r in group.responses])
                for group in groups
            ],
            steps=self.settings.steps_per_generation,
            world_size=1,
            micro_batch_tokens=self.settings.micro_batch_tokens,
            seed=self.seed,
            round_index=round_index,
        )

    def _prepared(
        self, groups: Sequence[Group], reader: DatasetReader, dealt: Sequence[Minibatch]
    ) -> list[list[Prepared]]:
        preparer = Preparer(
            groups,
            reader,
            self.processor,
            self.policy,
            std_floor=self.settings.std_floor,
            mask_truncated=self.settings.mask_truncated_completions,
        )
        return [[preparer.prepare(micro, lambda count=1: None) for micro in step.ranks[0]] for step in dealt]

    def _scored(self, minibatches: Sequence[Sequence[Prepared]]) -> list[list[Scored]]:
        """Every micro-batch with its log-probs under pi_old and, where it is used, pi_ref."""
        old = self._log_probs(minibatches)
        reference: Sequence[Sequence[Tensor | None]] = [[None for _ in minibatch] for minibatch in minibatches]
        if self.settings.kl_reference == "round" or (self.settings.needs_reference and not self.progress.global_step):
            reference = old
        elif self.settings.needs_reference:
            now = {name: value.detach().clone() for name, value in self.parameters.items()}
            self._put(self.first)
            reference = self._log_probs(minibatches)
            self._put(now)
        return [
            [Scored(micro, old[i][j], reference[i][j]) for j, micro in enumerate(minibatch)]
            for i, minibatch in enumerate(minibatches)
        ]

    @torch.no_grad()
    def _log_probs(self, minibatches: Sequence[Sequence[Prepared]]) -> list[list[Tensor]]:
        return [[self.policy(*micro.model_inputs(ALONE.device))[0] for micro in step] for step in minibatches]

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.parameters[name].copy_(value)

    def _tokens(self, group: Group) -> int:
        left_out = "length" if self.settings.mask_truncated_completions else None
        return sum(len(item.token_ids) for item in group.responses if item.finish_reason != left_out)


def samples_from_base(settings: TrainingSettings) -> bool:
    """Whether every round's responses are the run's first policy's."""
    return settings.declared.rollout_policy == "reference"
