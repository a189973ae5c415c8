"""One round of training in a worker: prepare, log-probs under pi_old and pi_ref, optimizer steps, outputs."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from components.shared.dataset import DatasetReader
from components.shared.engines import loaded_engines
from components.shared.files import write_atomic
from components.shared.groups import groups_from_parquet
from components.shared.policy_inputs import banned_token_ids, load_processor
from components.shared.progress import progress
from components.training import checkpoint, state
from components.training.advantages import masked_std
from components.training.distributed import Place
from components.training.forward import PackedPolicy
from components.training.loss import group_losses
from components.training.metrics import StepMetrics
from components.training.minibatches import plan
from components.training.objectives.inputs import LossInputs
from components.training.objectives.reg_grpo import log_ratios
from components.training.policy import (
    copy_weights,
    load_policy,
    parameter_names,
    stored_in_float32,
    trainable,
    write_policy,
)
from components.training.prepare import Prepared, Preparer
from components.training.schedule import learning_rate
from components.training.spec import METRICS, POLICY, STATE, SUMMARY, Report, WorkerSpec
from components.training.tensors import load_masters, load_moments, save_masters, save_moments
from components.training.zero import gathered_masters, restore, start_engine

FLOOR_OVER_NOISE = 3.0  # std_floor must be this many times std(rho) at unchanged weights


class Round:
    """The state of one worker. Every rank runs the same code on its own groups; rank 0 writes."""

    def __init__(self, spec: WorkerSpec, place: Place) -> None:
        self.spec, self.settings, self.place, self.device = spec, spec.settings, place, place.device
        self.store = spec.context.open_store()
        self.groups = groups_from_parquet(spec.groups.read_bytes())
        self.progress = state.read_progress(spec.state)

    def run(self) -> None:
        """Train the round, from its newest checkpoint if there is one, and write the outputs."""
        self._load()
        self._prepare()
        self._score_old_and_reference()
        self._start_engine()
        self._train()
        self._write()

    def _load(self) -> None:
        spec, settings = self.spec, self.settings
        processor = load_processor(spec.policy)
        model = load_policy(
            spec.policy, getattr(torch, settings.dtype), gradient_checkpointing=settings.gradient_checkpointing
        )
        self.names = parameter_names(model, spec.policy)
        self.parameters = trainable(model)
        self.masters = load_masters(spec.state)  # where the policy's own files round them
        self._copy_masters(self.masters)
        self.policy = PackedPolicy(model, banned_token_ids(processor), settings.lm_head_chunk).to(self.device)
        self.preparer = Preparer(
            self.groups,
            DatasetReader(spec.dataset),
            processor,
            self.policy,
            std_floor=settings.std_floor,
            mask_truncated=settings.mask_truncated_completions,
        )

    def _prepare(self) -> None:
        settings = self.settings
        tokens = [
            len(group.prompt_token_ids) + sum(len(response.token_ids) - 1 for response in group.responses)
            for group in self.groups
        ]
        steps = plan(
            tokens,
            steps=settings.steps_per_generation,
            world_size=self.place.world_size,
            micro_batch_groups=settings.micro_batch_groups,
            seed=self.spec.context.seed,
            round_index=self.spec.context.round,
        )
        self.group_counts = [step.groups for step in steps]
        mine = [step.ranks[self.place.rank] for step in steps]
        with progress(
            "Encoding prompts", total=sum(len(m.groups) for step in mine for m in step), unit="groups"
        ) as advance:
            self.minibatches = [[self.preparer.prepare(micro, advance) for micro in step] for step in mine]

    @torch.no_grad()
    def _log_probs(self, label: str) -> list[list[Tensor]]:
        """Log-probs of every micro-batch under the policy as it is, on the CPU."""
        with progress(label, total=sum(self.group_counts) // self.place.world_size, unit="groups") as advance:
            found: list[list[Tensor]] = []
            for minibatch in self.minibatches:
                found.append([])
                for micro in minibatch:
                    found[-1].append(self._forward(self.policy, micro)[0].cpu())
                    advance(len(micro.weights))
        return found

    def _forward(self, module: Any, micro: Prepared) -> tuple[Tensor, Tensor]:
        return module(micro.packed.to(self.device), micro.features.to(self.device))

    def _score_old_and_reference(self) -> None:
        started = time.time()
        self.startup_seconds = started - psutil.Process().create_time()
        self.old = self._log_probs("Scoring under the round's policy")
        if self.settings.kl_reference == "round":
            self.reference: list[list[Tensor]] | None = self.old
        elif self.spec.reference is None:
            self.reference = None
        elif self.spec.reference == self.spec.policy:
            self.reference = self.old
        else:
            self.reference = self._score_reference(self.spec.reference)

    def _score_reference(self, reference: Path) -> list[list[Tensor]]:
        """Log-probs under the run's first policy, seen through its own vision tower where that is another one."""
        kept = self.minibatches
        if copy_weights(self.policy.model, reference):
            self._prepare()
        found = self._log_probs("Scoring under the reference")
        self._policy_weights()
        self.minibatches = kept
        return found

    def _policy_weights(self) -> None:
        copy_weights(self.policy.model, self.spec.policy)
        self._copy_masters(self.masters)

    @torch.no_grad()
    def _copy_masters(self, masters: dict[str, Tensor]) -> None:
        for name, value in masters.items():
            self.parameters[name].copy_(value)

    def _start_engine(self) -> None:
        self.policy.model.model.visual = None  # its features are made: the engine never sees it
        found = checkpoint.find_checkpoint(self.store, self.spec.key)
        optimizer_steps = self.progress.optimizer_steps
        if found is None:
            self.position = checkpoint.Position(optimizer_steps=optimizer_steps)
            folder = self.spec.state
        else:
            folder, self.position = found
            optimizer_steps = self.position.optimizer_steps
            self.masters = load_masters(folder)
            self._copy_masters(self.masters)
        self.engine = start_engine(self.policy, list(self.parameters.values()), self.settings)
        self.engine.train(self.settings.gradient_checkpointing)
        if optimizer_steps:
            restore(self.engine, self.parameters, self.masters, load_moments(folder), optimizer_steps)
        self.masters = {}

    def _train(self) -> None:
        settings = self.settings
        steps = settings.num_iterations * len(self.minibatches)
        with progress("Training", total=steps, unit="steps") as advance:
            advance(self.position.next_step)
            for step in range(self.position.next_step, steps):
                self._optimizer_step(step)
                done = step + 1
                if settings.checkpoint_steps and done % settings.checkpoint_steps == 0 and done < steps:
                    checkpoint.write_checkpoint(
                        self.store,
                        self.spec.key,
                        self.spec.output / "checkpoint",
                        self.parameters,
                        self.position,
                        keep=self.place.leads,
                    )
                advance()

    def _optimizer_step(self, step: int) -> None:
        started = time.monotonic()
        which = step % len(self.minibatches)
        rate = learning_rate(self.progress.global_step + step, self.settings)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        metrics, noise = StepMetrics(), torch.zeros((), device=self.device)
        minibatch = self.minibatches[which]
        for number, micro in enumerate(minibatch):
            self.engine.set_gradient_accumulation_boundary(number + 1 == len(minibatch))
            loss, rho_std = self._micro_batch(micro, which, number, metrics)
            noise = torch.maximum(noise, rho_std)
            if step == 0 and number + 1 == len(minibatch):
                self._check_floor(noise)
            self.engine.backward(loss)
        self.engine.step()
        applied = self.engine.was_step_applied()
        measured, tokens = metrics.result(self.device, with_kl=self.reference is not None)
        norm = self.engine.get_global_grad_norm()
        position = self.position
        total = position.num_tokens + tokens
        record = {
            "step": self.progress.global_step + step + 1,
            **measured,
            "grad_norm": float(norm),
            "learning_rate": rate,
            "skipped": float(not applied),
            "step_time": time.monotonic() - started,
            "num_tokens": self.progress.num_tokens + total,
        }
        self.position = checkpoint.Position(
            next_step=step + 1,
            optimizer_steps=position.optimizer_steps + applied,
            num_tokens=total,
            skipped_steps=position.skipped_steps + (not applied),
            noise=float(noise) if step == 0 else position.noise,
            metrics=(*position.metrics, {name: _finite(value) for name, value in record.items()}),
        )
        if self.place.leads:
            with open(self.spec.output / METRICS, "a") as file:
                file.write(json.dumps(self.position.metrics[-1]) + "\n")

    def _micro_batch(self, micro: Prepared, which: int, number: int, metrics: StepMetrics) -> tuple[Tensor, Tensor]:
        """The loss to go backward from, and the largest std(rho) of a group."""
        device = self.device
        logprobs, entropies = self._forward(self.engine, micro)
        inputs = LossInputs(
            logprobs=logprobs,
            old_logprobs=self.old[which][number].to(device),
            tokens=micro.packed.tokens.to(device),
            responses=micro.responses.to(device),
            advantages=micro.advantages.to(device),
            informative=micro.informative.to(device),
        )
        reference = None if self.reference is None else self.reference[which][number].to(device)
        losses = group_losses(inputs, reference, self.settings)
        weights, rho = micro.weights.to(device), log_ratios(inputs).detach()
        metrics.add(
            inputs,
            rho,
            weights=weights,
            rewards=micro.rewards.to(device),
            truncated=micro.truncated.to(device),
            entropies=entropies,
            sampler_logprobs=micro.sampler_logprobs.to(device),
            loss=losses.loss,
            kl=losses.kl,
            packed_tokens=micro.packed_tokens,
        )
        # DeepSpeed takes the mean of the ranks' gradients; the loss is a mean over the groups of all of them
        share = self.place.world_size / self.group_counts[which]
        return (losses.loss * weights).sum() * share, masked_std(rho, inputs.responses, 0.0).max()

    def _check_floor(self, noise: Tensor) -> None:
        """Refuse a std_floor that log-ratios reach at unchanged weights. `noise`: their largest std on this rank."""
        torch.distributed.all_reduce(noise, torch.distributed.ReduceOp.MAX)
        if float(noise) * FLOOR_OVER_NOISE > self.settings.std_floor:
            raise ValueError(
                f"std_floor {self.settings.std_floor:g} is below {FLOOR_OVER_NOISE:g} times the standard deviation of"
                f" the log-ratios at unchanged weights, {float(noise):.3g}: raise std_floor, or train in float32"
            )

    def _write(self) -> None:
        spec, output = self.spec, self.spec.output
        masters = gathered_masters(self.parameters, keep=self.place.leads)
        (output / STATE).mkdir(exist_ok=True)
        if self.place.leads:
            write_policy(spec.policy, output / POLICY, self.names, masters)
            if not stored_in_float32(spec.policy):
                save_masters(masters, output / STATE)
        del masters
        if self.position.optimizer_steps:
            save_moments(output / STATE, self.parameters, keep=self.place.leads)
        if self.place.leads:
            steps = self.position.metrics
            rewards = [response.reward for group in self.groups for response in group.responses]
            summary = state.RoundSummary(
                round=spec.context.round,
                reward=math.fsum(rewards) / len(rewards),
                kl=steps[-1]["kl"],
                entropy=steps[-1]["entropy"],
            )
            history = (*self.progress.history, summary)
            state.write_progress(
                output / STATE,
                state.Progress(
                    global_step=self.progress.global_step + len(steps),
                    optimizer_steps=self.position.optimizer_steps,
                    num_tokens=self.progress.num_tokens + self.position.num_tokens,
                    history=history,
                    stop_reason=state.stop_reason(history, self.settings),
                ),
            )
            report = Report(
                startup_seconds=self.startup_seconds,
                skipped_steps=self.position.skipped_steps,
                noise=self.position.noise,
                engines=loaded_engines(),
                metrics=self.position.metrics,
            )
            write_atomic(output / SUMMARY, report.model_dump_json())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
