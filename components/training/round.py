"""One round of training in a worker: prepare, log-probs under pi_old and pi_ref, optimizer steps, outputs."""

from __future__ import annotations

import math
import time
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file
from torch import Tensor

from components.shared.dataset import DatasetReader
from components.shared.engines import loaded_engines
from components.shared.files import write_atomic
from components.shared.groups import groups_from_parquet
from components.shared.policy_inputs import banned_token_ids, load_processor
from components.shared.progress import progress
from components.training import state
from components.training.adapters import add_adapter, merged, without_adapter
from components.training.checkpoint import Position, find_checkpoint, write_checkpoint
from components.training.distributed import Place
from components.training.forward import PackedPolicy
from components.training.frozen import write_trained
from components.training.minibatches import Minibatch, plan
from components.training.optimizer_steps import OptimizerSteps, Scored
from components.training.packing import packed_tokens
from components.training.policy import (
    copy_weights,
    load_policy,
    parameter_names,
    shards,
    stored_in_float32,
    trainable,
)
from components.training.prepare import Prepared, Preparer
from components.training.spec import POLICY, STATE, SUMMARY, Report, WorkerSpec
from components.training.tensors import load_masters, load_moments, save_masters, save_moments
from components.training.zero import gathered_masters, restore, start_engine


class Round:
    """What one worker does. Every rank runs the same code on its own groups; rank 0 writes."""

    def __init__(self, spec: WorkerSpec, place: Place) -> None:
        self.spec, self.settings, self.place = spec, spec.settings, place
        self.store = spec.context.open_store()
        self.groups = groups_from_parquet(spec.groups.read_bytes())
        self.progress = state.read_progress(spec.state)
        processor = load_processor(spec.policy)
        model = load_policy(
            spec.base or spec.policy,
            getattr(torch, self.settings.dtype),
            gradient_checkpointing=self.settings.gradient_checkpointing,
        )
        self.names = parameter_names(model, spec.base or spec.policy)
        if spec.adapter:
            add_adapter(model, spec.adapter, spec.context.seed)
        self.parameters = trainable(model)
        self.masters = load_masters(spec.state)  # where the policy's own files do not hold them
        self._copy_masters()
        self.policy = PackedPolicy(
            model, banned_token_ids(processor), self.settings.lm_head_chunk, self.settings.attention
        ).to(place.device)
        self.preparer = Preparer(
            self.groups,
            DatasetReader(spec.dataset),
            processor,
            self.policy,
            std_floor=self.settings.std_floor,
            mask_truncated=self.settings.mask_truncated_completions,
        )
        self.startup_seconds = time.time() - psutil.Process().create_time()

    def run(self) -> None:
        """Train the round, from its newest checkpoint if there is one, and write the outputs."""
        plan = self._plan()
        minibatches = self._score(self._prepare(plan))
        started = time.monotonic()
        steps = self._optimizer_steps(plan, minibatches)
        self.startup_seconds += time.monotonic() - started
        self._train(steps)
        self._write(steps.position)

    def _plan(self) -> tuple[Minibatch, ...]:
        return plan(
            [
                packed_tokens(len(group.prompt_token_ids), [len(response.token_ids) for response in group.responses])
                for group in self.groups
            ],
            steps=self.settings.steps_per_generation,
            world_size=self.place.world_size,
            micro_batch_tokens=self.settings.micro_batch_tokens,
            seed=self.spec.context.seed,
            round_index=self.spec.context.round,
        )

    def _prepare(self, plan: tuple[Minibatch, ...]) -> list[list[Prepared]]:
        mine = [step.ranks[self.place.rank] for step in plan]
        count = sum(len(micro.groups) for step in mine for micro in step)
        with progress("Encoding prompts and frames", total=count, unit="groups") as advance:
            return [[self.preparer.prepare(micro, advance) for micro in step] for step in mine]

    def _score(self, minibatches: list[list[Prepared]]) -> list[list[Scored]]:
        """Every micro-batch with its log-probs under pi_old and pi_ref."""
        old = self._log_probs(minibatches, "Scoring under the round's policy")
        reference: list[list[Tensor]] | None = None
        if self.settings.kl_reference == "round" or self.spec.reference == self.spec.policy:
            reference = old
        elif self.spec.reference is not None:
            reference = self._reference_log_probs(minibatches, self.spec.reference)
        return [
            [
                Scored(micro, old[i][j], None if reference is None else reference[i][j])
                for j, micro in enumerate(minibatch)
            ]
            for i, minibatch in enumerate(minibatches)
        ]

    @torch.no_grad()
    def _log_probs(self, minibatches: list[list[Prepared]], label: str) -> list[list[Tensor]]:
        found: list[list[Tensor]] = []
        with progress(label, total=sum(map(len, minibatches)), unit="batches") as advance:
            for minibatch in minibatches:
                found.append([])
                for micro in minibatch:
                    logprobs, _ = self.policy(*micro.model_inputs(self.place.device))
                    found[-1].append(logprobs.cpu())
                    advance()
        return found

    def _reference_log_probs(self, minibatches: list[list[Prepared]], reference: Path) -> list[list[Tensor]]:
        """Log-probs under the run's first policy, seen through its own vision tower where that is another one."""
        label = "Scoring under the reference"
        if self.spec.adapter:
            with without_adapter(self.policy.model):
                return self._log_probs(minibatches, label)
        if copy_weights(self.policy.model, reference):
            minibatches = self._prepare(self._plan())
        found = self._log_probs(minibatches, label)
        copy_weights(self.policy.model, self.spec.policy)
        self._copy_masters()
        return found

    @torch.no_grad()
    def _copy_masters(self) -> None:
        for name, value in self.masters.items():
            self.parameters[name].copy_(value)

    def _optimizer_steps(self, plan: tuple[Minibatch, ...], minibatches: list[list[Scored]]) -> OptimizerSteps:
        """The engine with the optimizer's state of the round's start, or of its newest checkpoint."""
        self.policy.model.model.visual = None  # its features are made: the engine never sees it
        folder, position = self.spec.state, Position(optimizer_steps=self.progress.optimizer_steps)
        if found := find_checkpoint(self.store, self.spec.key):
            folder, position = found
            self.masters = load_masters(folder)
            self._copy_masters()
        elif not self.masters and not self.spec.adapter and self.settings.dtype != "float32":
            self.masters = self._files_weights()
        engine = start_engine(self.policy, list(self.parameters.values()), self.settings)
        engine.train(self.settings.gradient_checkpointing)
        if position.optimizer_steps or self.masters:
            moments = load_moments(folder) if position.optimizer_steps else {}
            restore(engine, self.parameters, self.masters, moments, position.optimizer_steps)
        self.masters = {}
        return OptimizerSteps(
            engine,
            minibatches,
            [step.groups for step in plan],
            [sum(self._tokens(index) for index in step.indices()) for step in plan],
            self.settings,
            self.place,
            self.progress,
            position,
        )

    def _files_weights(self) -> dict[str, Tensor]:
        """The policy's own weights where its files are fp32 and the model, in another type, rounds them; else nothing."""
        if not stored_in_float32(self.spec.policy):
            return {}
        tensors = {
            self.names[name]: value for shard in shards(self.spec.policy) for name, value in load_file(shard).items()
        }
        return {name: tensors[name] for name in self.parameters}

    def _tokens(self, group: int) -> int:
        """The group's tokens that take part in the loss."""
        left_out = "length" if self.settings.mask_truncated_completions else None
        return sum(len(item.token_ids) for item in self.groups[group].responses if item.finish_reason != left_out)

    def _train(self, steps: OptimizerSteps) -> None:
        every, total = self.settings.checkpoint_steps, steps.total
        with progress("Training", total=total, unit="steps") as advance:
            advance(steps.position.next_step)
            while (step := steps.position.next_step) < total:
                if every and step and step % every == 0:
                    folder = self.spec.output / "checkpoint"
                    keep = self.place.leads
                    write_checkpoint(self.store, self.spec.key, folder, self.parameters, steps.position, keep=keep)
                steps.step()
                advance()

    def _write(self, position: Position) -> None:
        spec, leads = self.spec, self.place.leads
        policy_folder, state_folder = spec.output / POLICY, spec.output / STATE
        masters, frozen = gathered_masters(self.parameters, keep=leads), 0
        if leads:
            state_folder.mkdir()
            base = spec.base or spec.policy
            trained = merged(base, self.names, masters, spec.adapter) if spec.adapter else masters
            frozen = write_trained(base, policy_folder, self.names, trained)
            del trained
            if spec.adapter or not stored_in_float32(base):
                save_masters(masters, state_folder)
        del masters
        if position.optimizer_steps:
            save_moments(state_folder, self.parameters, keep=leads)
        if leads:
            state.write_progress(state_folder, self._new_progress(position))
            report = Report(
                startup_seconds=self.startup_seconds,
                skipped_steps=position.skipped_steps,
                noise=position.noise,
                frozen_tensors=frozen,
                engines=loaded_engines(),
                metrics=position.metrics,
            )
            write_atomic(spec.output / SUMMARY, report.model_dump_json())

    def _new_progress(self, position: Position) -> state.Progress:
        rewards = [response.reward for group in self.groups for response in group.responses]
        summary = state.RoundSummary(
            round=self.spec.context.round,
            reward=math.fsum(rewards) / len(rewards),
            kl=position.metrics[-1]["kl"],
            entropy=position.metrics[-1]["entropy"],
        )
        history = (*self.progress.history, summary)
        return state.Progress(
            global_step=self.progress.global_step + len(position.metrics),
            optimizer_steps=position.optimizer_steps,
            num_tokens=self.progress.num_tokens + position.num_tokens,
            adapter=self.spec.adapter,
            history=history,
            stop_reason=state.stop_reason(history, self.settings),
        )
