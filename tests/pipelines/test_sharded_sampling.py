"""Steps in shards: the same bytes as from one pod, by a real engine, also behind KFP's loop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.augmentation.settings import AugmentationSettings
from components.augmentation.step import augment
from components.difficulty.settings import DifficultySettings
from components.difficulty.step import estimate_difficulty
from components.evaluation.settings import EvaluationSettings
from components.evaluation.step import evaluate
from components.rollout.settings import RolloutSettings
from components.rollout.step import roll_out
from components.shared.context import StepContext
from components.shared.generation import GenerationSettings, Prompt, Sampled
from components.shared.generation.transformers_engine import TransformersSampler
from components.shared.ledger import Outputs
from components.shared.rewards import RewardSettings
from components.shared.sampling import artifacts
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef, Augmentation
from components.shared.sharding import MERGES, Shard, ShardMissing
from pipelines.settings import build_settings
from tests.round_fixtures import sample, write_dataset

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "components/ingest/tiny_model/weights"
SAMPLING = SamplingSettings(num_generations=2, max_completion_length=12, chunk_prompts=1)
COMMON = {"sampling": SAMPLING, "rewards": RewardSettings()}
HARD = DifficultySettings(prompts_per_round=4, difficulty_reference="absolute", absolute_reference=1.0)
EVALUATION = EvaluationSettings(
    num_generations=2, max_completion_length=12, chunk_questions=1, bootstrap_resamples=100, greedy=False
)
SHARDS = 3


class Engine(TransformersSampler):
    """The real engine, which also remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(GenerationSettings(engine="transformers"))
        self.asked: list[str] = []

    def sample(self, policy: Path, prompts: Sequence[Prompt], **options: Any) -> list[Sampled]:
        self.asked += [prompt.key for prompt in prompts]
        return super().sample(policy, prompts, **options)


def begin(store: Path) -> tuple[StepContext, dict[str, ArtifactRef]]:
    """A store with four questions to train on and four that are held out, the tiny policy, and empty beginnings."""
    context = StepContext(store=str(store), seed=3, round=1)
    opened = context.open_store()
    samples = [sample(index, "train" if index < 4 else "L1") for index in range(8)]
    videos = list(np.random.default_rng(5).integers(0, 256, (8, 2, 56, 56, 3), dtype=np.uint8))
    shutil.copytree(POLICY, store.parent / "policy", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    return context, {
        "dataset": opened.put(write_dataset(store.parent / "dataset", samples, videos), "dataset"),
        "policy": opened.put(store.parent / "policy", "policy"),
        "buffer": artifacts.put_files(opened, "buffer", {artifacts.BUFFER: b""}),
        "state": artifacts.put_files(opened, "state", {"state.json": b"{}"}),
    }


Step = Callable[[StepContext, dict[str, ArtifactRef], Engine], Outputs]


def difficulty(context: StepContext, refs: dict[str, ArtifactRef], engine: Engine) -> Outputs:
    given = (refs["dataset"], refs["policy"], refs["buffer"], refs["state"])
    return estimate_difficulty(*given, HARD, engine, context, **COMMON)


def augmentation(context: StepContext, refs: dict[str, ArtifactRef], engine: Engine) -> Outputs:
    given = (refs["dataset"], refs["policy"], refs["difficulty"], refs["state"])
    return augment(*given, AugmentationSettings(hint_generations=2), engine, context, **COMMON)


def rollout(context: StepContext, refs: dict[str, ArtifactRef], engine: Engine) -> Outputs:
    given = (refs["dataset"], refs["policy"], refs["difficulty"], refs["hinted"], refs["state"])
    return roll_out(*given, RolloutSettings(), engine, context, **COMMON)


def evaluation(context: StepContext, refs: dict[str, ArtifactRef], engine: Engine) -> Outputs:
    return evaluate(refs["dataset"], refs["policy"], EVALUATION, engine, context)


STEPS: dict[str, Step] = {
    "difficulty": difficulty,
    "augmentation": augmentation,
    "rollout": rollout,
    "evaluation": evaluation,
}


def hinted(context: StepContext, difficulty: ArtifactRef) -> ArtifactRef:
    """An augmentation with a hint for every sample, so that rollout samples them all."""
    store = context.open_store()
    rows = [
        artifacts.AugmentedSample(sample_id=row.sample_id, augmentation=Augmentation(kind="hint", hint="look closely"))
        for row in artifacts.read_difficulty(store.get(difficulty))
    ]
    return artifacts.put_files(store, "augmentation", {artifacts.AUGMENTATION: artifacts.to_lines(rows)})


def in_shard(context: StepContext, number: int, count: int = SHARDS) -> StepContext:
    return context.model_copy(update={"shard": Shard(number=number, count=count)})


def results(outputs: Outputs) -> dict[str, object]:
    return {name: value for name, value in outputs.results.items() if name != "engines"}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def one_pod(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> dict[str, Outputs]:
    """What each step puts out that runs as a whole."""
    context, refs = begin(tmp_path_factory.mktemp("whole") / "store")
    done = {"difficulty": difficulty(context, refs, engine)}
    refs |= {"difficulty": done["difficulty"].artifacts["difficulty"]}
    refs["hinted"] = hinted(context, refs["difficulty"])
    return done | {name: STEPS[name](context, refs, engine) for name in ("augmentation", "rollout", "evaluation")}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[StepContext, dict[str, ArtifactRef]]:
    return begin(tmp_path_factory.mktemp("sharded") / "store")


@pytest.mark.parametrize("name", STEPS)
def test_a_step_in_shards_leaves_the_bytes_of_one_pod(
    one_pod: dict[str, Outputs],
    sharded: tuple[StepContext, dict[str, ArtifactRef]],
    engine: Engine,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, refs = sharded
    step, asked = STEPS[name], []
    for number in range(1, SHARDS + 1):
        engine.asked.clear()
        left = step(in_shard(context, number), refs, engine)
        assert left.artifacts == {}  # that is for the step that merges
        asked += engine.asked
        idle = Engine()
        step(in_shard(context, number), refs, idle)  # tried again: its share is there
        assert idle.asked == [] and idle.startup_seconds == 0
    assert len(asked) == len(set(asked)) >= SHARDS  # each prompt once
    monkeypatch.setenv(MERGES, str(SHARDS))  # it has no engine to use
    idle = Engine()
    merged = step(context, refs, idle)
    assert idle.asked == [] and idle.startup_seconds == 0
    assert {key: ref.digest for key, ref in merged.artifacts.items()} == {
        key: ref.digest for key, ref in one_pod[name].artifacts.items()
    }
    assert results(merged) == results(one_pod[name])
    assert set(merged.results["engines"]) >= {"torch", "transformers"}  # type: ignore[call-overload]
    found = step(in_shard(context, 1), refs, idle)  # finished: found, not made
    assert found.model_dump(mode="json") == merged.model_dump(mode="json") and idle.asked == []
    if name == "difficulty":
        refs["difficulty"] = merged.artifacts["difficulty"]
        refs["hinted"] = hinted(context, refs["difficulty"])


def test_a_merging_pod_names_the_missing_shard_and_starts_no_engine(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, refs = begin(tmp_path / "store")
    for number in (1, 3):
        evaluation(in_shard(context, number), refs, engine)
    monkeypatch.setenv(MERGES, str(SHARDS))
    idle = Engine()
    with pytest.raises(ShardMissing, match="shard 2 of 3: 1 of the 4 chunks of evaluation-before-.*same name"):
        evaluation(context, refs, idle)
    assert idle.asked == [] and idle.startup_seconds == 0


@pytest.mark.parametrize("name", ["difficulty", "augmentation", "rollout"])
def test_after_a_stop_a_shard_does_nothing(tmp_path: Path, name: str) -> None:
    context, refs = begin(tmp_path / "store")
    stopped = refs["state"].model_copy(update={"metadata": {"stop_reason": "kl above 1"}})
    idle = Engine()
    given = {**refs, "difficulty": refs["dataset"], "hinted": refs["dataset"], "state": stopped}
    assert STEPS[name](in_shard(context, 2), given, idle).results == {"skipped": "kl above 1"}
    assert idle.asked == [] and context.open_store().list_objects("work") == []


_LOCAL = """
import json, sys
from kfp import compiler, dsl
from components.evaluation.component import evaluate_base
from pipelines.pods.placing import placer
from pipelines.settings import RunSettings
from pipelines.sharded_sampling.loop import generator
from pathlib import Path
folder = Path(sys.argv[1])
settings = RunSettings.model_validate_json((folder / "settings.json").read_text())

@dsl.component(install_kfp_package=False)
def put_out(name: str, out: dsl.Output[dsl.Artifact]):
    import shutil
    shutil.copy(name, out.path)

@dsl.pipeline(name="small")
def small(context: str, settings_text: str) -> dsl.Artifact:
    refs = {name: put_out(name=str(folder / f"{name}.json")).output for name in ("dataset", "policy", "reports")}
    generate = generator(placer(settings, False, {}), settings, cluster=False)
    task = generate(evaluate_base, "evaluation-before", "Evaluation before", context=context, settings=settings_text,
                    **refs)
    return task.outputs["new_reports"]

arguments = {"context": (folder / "context.json").read_text(), "settings_text": settings.model_dump_json()}
compiler.Compiler().compile(small, str(folder / "small.yaml"), pipeline_parameters=arguments)
"""


def test_kfp_runs_the_loop_of_shards_and_the_step_that_merges_them(tmp_path: Path, one_pod: dict[str, Outputs]) -> None:
    context, refs = begin(tmp_path / "store")
    layer = {
        "pipeline.evaluation_shards": 2, "generation.engine": "transformers", "pipeline.seed": context.seed,
        **{f"evaluation.{name}": value for name, value in EVALUATION.model_dump().items() if name != "levels"},
    }  # fmt: skip
    (tmp_path / "settings.json").write_text(build_settings(layer).model_dump_json())
    (tmp_path / "context.json").write_text(context.model_dump_json())
    for name in ("dataset", "policy"):
        (tmp_path / f"{name}.json").write_text(refs[name].model_dump_json())
    (tmp_path / "reports.json").write_text("[]")
    script = tmp_path / "compile_small.py"  # KFP reads a component's source from its file
    script.write_text(_LOCAL)
    environment = {"DEEPVIDEO_PROGRESS": str(tmp_path / "events.jsonl")}
    for argv in (
        [sys.executable, str(script), str(tmp_path)],
        [sys.executable, "-c", _RUN, str(tmp_path)],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=_environment(environment))
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (report,) = json.loads((tmp_path / "out.json").read_text())
    assert report["digests"]["scores"] == one_pod["evaluation"].artifacts["scores"].digest
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    ended = [event["step"] for event in events if event["event"] == "step_finished"]
    assert ended == [*(f"evaluation before, shard {number} of 2" for number in (1, 2)), "evaluation before"]


_RUN = """
import sys, shutil
from pathlib import Path
from kfp import components, local
folder = Path(sys.argv[1])
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"), raise_on_error=True)
task = components.load_component_from_file(str(folder / "small.yaml"))()
shutil.copy(task.output.path, folder / "out.json")
"""


def _environment(more: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, **more}
