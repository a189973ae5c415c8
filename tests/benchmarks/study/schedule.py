"""All runs of a study: which there are, which are done, what is left, and two processes that do it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from components.shared.schemas import TUNING_SPLIT
from pipelines.settings import RunSettings
from tests.benchmarks.study.arms import ARMS, TUNING_SEED, Arm, Plan
from tests.benchmarks.study.records import RunRecord, accuracy, read, run_key, write
from tests.benchmarks.study.workplace import Inputs, Workplace

RAW, TUNING = "raw", "tuning"

# Seconds of one core, measured (see README.md): what the time left is estimated by until runs have been timed.
_RESPONSE = 0.0033  # sampling one
_GROUP_PASS = 0.036  # forward and backward of one packed group, once
_GROUP_SCORE = 0.036  # its encoding, and scoring under pi_old and pi_ref
_ROUND = 1.0  # reading, writing and loading
_ANSWER = 0.003
_START = 2.0


@dataclass(frozen=True)
class Job:
    """One run to be done."""

    arm: Arm
    seed: int
    learning_rate: float | None
    tuning: bool
    path: Path
    key: str

    @property
    def settings(self) -> RunSettings:
        """The run's settings."""
        return self.arm.settings(self.seed, self.learning_rate)

    @property
    def title(self) -> str:
        """For the terminal."""
        return (
            f"{self.arm.label}, learning rate {self.learning_rate:g}"
            if self.tuning
            else f"{self.arm.label}, seed {self.seed}"
        )


@dataclass
class Study:
    """A plan, where its results lie, and what it is run on."""

    plan: Plan
    inputs: Inputs
    folder: Path
    rates: dict[str, float] = field(default_factory=dict)  # arm -> the chosen learning rate

    def arms(self) -> list[Arm]:
        """The plan's arms, in their order."""
        return [ARMS[name] for name in self.plan.arms]

    def tuning_jobs(self, arm: Arm) -> list[Job]:
        """The short runs that choose the arm's learning rate; none for the base."""
        if arm.method == "none":
            return []
        return [self._job(arm, TUNING_SEED, rate, tuning=True) for rate in self.plan.learning_rates]

    def jobs(self, arm: Arm) -> list[Job]:
        """The arm's runs, once its learning rate is known."""
        return [self._job(arm, seed, self.rates.get(arm.name), tuning=False) for seed in self.plan.seeds(arm)]

    def choose(self, arm: Arm) -> bool:
        """Note the arm's learning rate if all its short runs are done; returns whether its runs can begin."""
        if arm.method == "none" or arm.name in self.rates:
            return True
        found = [read(job.path, job.key) for job in self.tuning_jobs(arm)]
        tried = [record for record in found if record is not None]
        if len(tried) < len(found):
            return False
        self.rates[arm.name] = best_rate(
            {r.learning_rate or 0.0: accuracy(r.at_responses, TUNING_SPLIT) for r in tried}
        )
        return True

    def _job(self, arm: Arm, seed: int, rate: float | None, *, tuning: bool) -> Job:
        settings = arm.settings(seed, rate)
        key = run_key(
            settings=settings.model_dump(mode="json"),
            method=arm.method,
            dataset=self.inputs.dataset.digest,
            policy=self.inputs.policy.digest,
            responses=self.plan.tuning_responses if tuning else self.plan.responses,
            updates=0 if tuning else self.plan.updates,
            questions=self.plan.questions,
            tuning=tuning,
        )
        name = f"{TUNING}/{arm.name}-{rate:g}" if tuning else f"{arm.name}-seed{seed}"
        return Job(arm, seed, rate, tuning, self.folder / RAW / f"{name}.json", key)


def best_rate(tried: dict[float, float]) -> float:
    """Of learning rate -> accuracy on the tuning split the best one; of equals the smallest."""
    return min(tried, key=lambda rate: (-tried[rate], rate))


def expected_seconds(job: Job, plan: Plan) -> float:
    """What a run should take of one core, by the rates above."""
    settings, budget = job.settings, plan.tuning_responses if job.tuning else plan.responses
    training, group = settings.training, settings.sampling.num_generations
    questions = 180 if job.tuning else 3 * (plan.questions or 210)
    asked = questions * (settings.evaluation.num_generations + 1) * _ANSWER
    if job.arm.method == "none":
        return _START + asked
    if job.arm.method == "supervised":
        return _START + asked + plan.updates * budget / plan.responses * 12 * _GROUP_PASS / 2
    per_sample = 14.0 if settings.augmentation.augment_mode != "none" else float(group)
    samples = budget / per_sample
    rounds = samples / settings.difficulty.prompts_per_round
    trained = samples * (training.num_iterations * _GROUP_PASS + _GROUP_SCORE)
    twice = 1 if job.tuning or not job.arm.equal_updates else 2
    return _START + twice * asked + budget * _RESPONSE + trained + rounds * _ROUND


_place: Workplace | None = None


def _begin(inputs: Inputs, settings: RunSettings, cores: multiprocessing.Queue[int]) -> None:
    """In a new worker: one core, one thread, one engine."""
    global _place
    from components.shared.processes import die_with_parent

    die_with_parent()
    _write_to(inputs.store / "logs" / f"worker-{os.getpid()}.log")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.sched_setaffinity(0, {cores.get()})
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _place = Workplace(inputs, settings)


def _write_to(log: Path) -> None:
    """Send what libraries and runs print to a file: the terminal is the parent's."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _work(job: Job, plan: Plan) -> RunRecord:
    from tests.benchmarks.study.run import Run

    assert _place is not None
    found = Run(_place, plan, job.arm, job.settings, tuning=job.tuning)(
        job.key, lambda said: print(f"{job.title}: {said}", flush=True)
    )
    write(job.path, found)
    return found


def run_all(study: Study, only: set[str], processes: int, done: Callable[[Job, RunRecord, bool], None]) -> None:
    """Do what is not done yet of the arms in `only`, in `processes` processes of a core each.

    `done` is told of every run; True: it was there before.
    """
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", TORCHDYNAMO_DISABLE="1")
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in (sorted(os.sched_getaffinity(0)) * processes)[:processes]:
        cores.put(core)
    settings = study.arms()[0].settings(0, None)
    with ProcessPoolExecutor(processes, context, _begin, (study.inputs, settings, cores)) as pool:
        running: dict[Future[RunRecord], Job] = {}
        try:
            for job in _ready(study, only, done):
                running[pool.submit(_work, job, study.plan)] = job
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    try:
                        found = future.result()
                    except Exception as error:
                        logs = study.inputs.store / "logs"
                        raise RuntimeError(f"{job.title} failed: {error!r}; what it printed is in {logs}") from error
                    done(job, found, False)
                    if job.tuning and study.choose(job.arm):
                        for new in _undone(study.jobs(job.arm), done):
                            running[pool.submit(_work, new, study.plan)] = new
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise


def _ready(study: Study, only: set[str], done: Callable[[Job, RunRecord, bool], None]) -> Iterator[Job]:
    for arm in (arm for arm in study.arms() if arm.name in only):
        yield from _undone(study.tuning_jobs(arm), done)
        if study.choose(arm):
            yield from _undone(study.jobs(arm), done)


def _undone(jobs: list[Job], done: Callable[[Job, RunRecord, bool], None]) -> Iterator[Job]:
    for job in jobs:
        if (found := read(job.path, job.key)) is not None:
            done(job, found, True)
        else:
            yield job
