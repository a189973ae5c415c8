"""The race runs and judges rightly. How fast anything is, no test says: `make bench-training` does."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared.policy_inputs import mrope_positions
from components.training.settings import TrainingSettings
from tests.benchmarks.race import contestants, equality, flops, report
from tests.benchmarks.race.contest import Clock, Result, check_equal
from tests.benchmarks.race.groups import PATCH, made_group, positions, video_token
from tests.benchmarks.race.shapes import QUICK, RACE, Point
from tests.benchmarks.race.worker import Spec, measured, prepare

ROOT = Path(__file__).parents[2]


def test_rows_and_packed_groups_have_the_same_log_probs_and_gradients() -> None:
    found = equality.differences(QUICK, Point(64, 9, 3), trl=False)
    assert set(found) == {"rows_in_a_batch", "rows_one_by_one"}
    assert max(value for differences in found.values() for value in differences.values()) <= 1e-4


def test_the_loss_has_the_trainers_default_settings() -> None:
    settings = TrainingSettings()
    raced = vars(contestants.SETTINGS)
    assert raced.pop("beta") == 0.0  # no reference, as in TRL's default
    assert raced == {name: getattr(settings, name) for name in raced}


def test_a_made_prompt_has_a_video_at_qwens_positions() -> None:
    group = made_group(QUICK, Point(200, 4, 2))
    video = group.prompt.input_ids == video_token(QUICK)
    assert int(video.sum()) == len(group.features) == 144  # nine patches of 16 are at most 3/4 of the prompt
    types = np.where(video.numpy(), 2, 0)
    expected = mrope_positions(types, {2: (9, 2 * PATCH[0], 2 * PATCH[1])}, merge_size=2, time_factor=1.0)
    assert group.prompt.position_ids.tolist() == expected.tolist()
    assert torch.equal(positions(2, 5, 1)[:, -1], torch.full((3,), 2 + 5))


def test_a_step_that_is_refused_its_memory_is_a_result(tmp_path: Path) -> None:
    spec = Spec("rows_in_a_batch", QUICK, Point(4096, 8, 16))  # hundreds of MB
    command = [sys.executable, "-m", "tests.benchmarks.race.worker", spec.dump()]
    done = subprocess.run(command, cwd=ROOT, input="100000000\n", capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0] == {"ready": True}, done.stderr
    assert "allocate" in answers[1]["out_of_memory"]


@pytest.fixture
def own_limit() -> Iterator[None]:
    """The process's limit of memory is put back: what later tests start would inherit it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_step_reports_its_memory_and_leaves_no_gradient(tmp_path: Path, own_limit: None) -> None:
    step, model = prepare(Spec("packed", QUICK._replace(vocabulary=50_000), Point(64, 64, 8)), str(tmp_path))
    answer = measured(step, model, 8 << 30)
    logits = 4 * 50_000 * 512
    assert logits < answer["peak_bytes"] < 40 * logits
    assert answer["gradient_norm"] > 0 and answer["seconds"] > 0
    assert np.shape(answer["logprobs"]) == (8, 64)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_contestants_that_differ_do_not_race() -> None:
    one = {"logprobs": [[-1.0, -2.0]], "gradient_norm": 3.0}
    check_equal({"packed": one, "rows_in_a_batch": {"logprobs": [[-1.0, -2.00005]], "gradient_norm": 3.0}}, report.MAIN)
    for other in (
        {**one, "logprobs": [[-1.0, -2.001]]},
        {**one, "gradient_norm": 3.01},
        {**one, "gradient_norm": np.nan},
    ):
        with pytest.raises(ArithmeticError, match="rows_in_a_batch"):
            check_equal({"packed": one, "rows_in_a_batch": other}, report.MAIN)


def test_ratios_and_goals_follow_from_times_memory_and_operations() -> None:
    results = {
        "packed": Result([2.0, 1.0, 3.0], [100, 90, 90], ""),
        "rows_in_a_batch": Result([9.0, 9.0, 9.0], [150, 150, 150], ""),
        "rows_one_by_one": Result([6.0], [50], "time was up"),
        "trl_rows": Result([], [], "out of memory"),
    }
    entry = report.figures(RACE, report.MAIN, results)
    rows = entry["contestants"]["rows_in_a_batch"]
    assert (rows["measured_ratio"], rows["memory_ratio"]) == (4.5, 1.5)
    packed_operations = flops.step(RACE, flops.packed_work(report.MAIN))
    assert rows["predicted_ratio"] == flops.step(RACE, flops.row_work(report.MAIN)) / packed_operations
    assert rows["response_tokens_per_second"] == 8 * 128 / 9.0
    met = {goal["goal"]: goal["met"] for goal in report.goals([entry], [])}
    assert met == {
        "2048/128/8: times faster than rows in a batch": True,
        "2048/128/8: peak memory by that of rows in a batch": False,
        "2048/128/8: measured by predicted ratio, rows in a batch": 4.5 / rows["predicted_ratio"] >= 0.8,
        "2048/128/8: no slower than rows in a batch": True,
        "2048/128/8: times faster than row by row": False,
        "2048/128/8: measured by predicted ratio, row by row": False,
        "2048/128/8: no slower than row by row": True,
        "2048/128/8: times faster than TRL's GRPOTrainer": None,
        "2048/128/8: measured by predicted ratio, TRL's GRPOTrainer": None,
    }


def test_memory_that_grows_faster_than_linearly_or_with_the_logits_is_seen() -> None:
    def sweep(peak: object) -> list[dict[str, int]]:
        return [
            {"vocabulary": vocabulary, "response_tokens": tokens, "peak_bytes": peak(vocabulary, tokens)}  # type: ignore[operator]
            for vocabulary in (100, 200)
            for tokens in (10, 20, 40)
        ]

    linear = report.memory_goals(sweep(lambda vocabulary, tokens: 1000 * vocabulary + 500 * tokens))
    assert [goal["met"] for goal in linear] == [True, True, True]
    square = report.memory_goals(sweep(lambda vocabulary, tokens: 1000 * vocabulary + 5 * tokens**2))
    assert [goal["met"] for goal in square] == [False, False, True]
    logits = report.memory_goals(sweep(lambda vocabulary, tokens: 4 * vocabulary * tokens))
    assert [goal["met"] for goal in logits] == [True, True, False]


def test_the_clock_estimates_by_operations_and_refuses_what_would_end_late() -> None:
    clock = Clock(minutes=1)
    clock.add("packed", 100)
    clock.add("packed", 200)
    clock.add("rows", 400)
    clock.finish("packed", 100, seconds=5.0)
    assert clock.remaining() == pytest.approx(10.0 + 20.0)  # 20 operations a second, for rows too until they are known
    assert clock.allows("rows", 1000) and not clock.allows("rows", 1300)


def test_the_race_runs_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.training_speed", "--quick", "--output", str(tmp_path)]
    subprocess.run([*command, "--contestants", "rows_in_a_batch", "rows_one_by_one"], cwd=ROOT, check=True)
    content = json.loads((tmp_path / "training_speed.json").read_text())
    assert set(content["largest_differences_from_packed"]) == {"rows_in_a_batch", "rows_one_by_one"}
    for entry in content["points"]:
        assert set(entry["contestants"]) == {"packed", "rows_in_a_batch", "rows_one_by_one"}
        for figure in entry["contestants"].values():
            assert figure["ended"] is None
            assert len(figure["step_seconds"]) == len(figure["peak_bytes"]) == content["repetitions"]
    assert [entry["vocabulary"] for entry in content["memory_sweep"]] == [256, 512]
    assert "| 64/8/4 | packed |" in (tmp_path / "training_speed.md").read_text()
    for name in ("training_speed.svg", "training_memory.svg"):
        assert "<svg" in (tmp_path / name).read_text()
