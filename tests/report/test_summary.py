from __future__ import annotations

import json

import pytest

from components.report.collect import MissingFigure
from components.report.step import write_report
from components.report.summary import VOLATILE, Summary, stable
from components.shared.reports import StepReport
from tests.report.conftest import warmup_report


@pytest.fixture(scope="module")
def written(arguments):
    return write_report(**arguments)


@pytest.fixture(scope="module")
def summary(written):
    return json.loads((written[1] / "summary.json").read_text())


def without(reports: list[StepReport], step: str, name: str) -> list[StepReport]:
    """The reports with one figure missing in the first report of a step."""
    index = next(i for i, report in enumerate(reports) if report.step == step)
    changed = reports[index].model_copy(
        update={"results": {key: value for key, value in reports[index].results.items() if key != name}}
    )
    return [*reports[:index], changed, *reports[index + 1 :]]


def test_the_summary_holds_what_the_steps_reported(summary, arguments):
    Summary.model_validate(summary)
    first, second, third = summary["rounds"]
    assert (first["reward"], second["reward"]) == (1.2, 1.4)
    assert second["frac_reward_zero_std_unaugmented"] == 0.3125 and second["frac_reward_zero_std"] == 0.12
    assert first["augmentation"] == {"none": 14, "hint": 8, "noise": 10, "mask": 0}
    assert first["unaugmented_reasons"] == {"no response was right": 2} and first["skipped_steps"] == 1
    losses = arguments["reports"][5].results["series"]["loss"]
    assert first["loss"] == pytest.approx(sum(losses) / 16) and first["kl"] == pytest.approx(0.0004 * 8.5)
    assert third["skipped"].startswith("round 2: KL") and third["reward"] is None
    assert [item["policy_digest"][-1] for item in summary["rounds"]] == ["1", "2", "2"]
    assert summary["training"]["step"] == list(range(1, 33)) and summary["training"]["round"] == [1] * 16 + [2] * 16
    assert summary["data"]["samples"] == {"L1": 40, "L2": 30, "promotion": 30, "train": 60}
    assert [item["item"] for item in summary["data"]["quarantined"]] == ["video_017.mp4", "annotations.jsonl:42"]
    versions = {"decord": "0.6.0", "deepspeed": "0.19.8", "mlflow": "3.17.2", "torch": "2.13.0", "vllm": "0.32.0"}
    assert versions.items() <= summary["engines"].items()


def test_a_warm_up_is_told_in_summary_and_report(arguments, summary):
    assert summary["warmup"] is None
    with_one = [*arguments["reports"][:2], warmup_report(), *arguments["reports"][2:]]
    _, folder = write_report(**arguments | {"reports": with_one})
    told = json.loads((folder / "summary.json").read_text())["warmup"]
    assert (told["epochs"], told["samples"], told["answers"], told["left_out"]) == (3, 58, 8, 2)
    assert told["policy_digest"] == "a" * 64
    line = "3 epochs over 58 samples (8 by their answers alone, 2 left out), loss 2.500 in the first, 0.250 in the last"
    assert all(line in (folder / name).read_text() for name in ("report.md", "report.html"))
    with pytest.raises(MissingFigure, match="warmup: results.loss_last_epoch is missing"):
        write_report(**arguments | {"reports": without(with_one, "warmup", "loss_last_epoch")})


def test_a_warm_up_without_rounds_has_a_report_without_them(arguments):
    outside = [report for report in arguments["reports"] if not report.round]
    _, folder = write_report(**arguments | {"reports": [*outside[:2], warmup_report(), *outside[2:]]})
    assert json.loads((folder / "summary.json").read_text())["rounds"] == []
    assert sorted(path.stem for path in (folder / "plots").iterdir()) == ["levels", "timings"]
    assert (
        'id="rounds"' not in (folder / "report.html").read_text()
        and "| Round |" not in (folder / "report.md").read_text()
    )


def test_differences_are_those_of_the_paired_scores(summary):
    for level in summary["evaluation"].values():
        scores = level["figures"]["sampled"]
        expected = scores["after"]["value"] - scores["before"]["value"]
        assert scores["difference"]["value"] == pytest.approx(expected)


def test_time_and_engine_start_up_are_added_up_over_all_steps(summary, arguments):
    work = sum(report.seconds for report in arguments["reports"])
    startup = sum(report.startup_seconds for report in arguments["reports"])
    assert startup == 34.0  # 9 + 9 in evaluation, 2 x (4 + 4) in the rounds that ran
    assert summary["timings"]["total_seconds"] == pytest.approx(work + startup)
    assert summary["timings"]["startup_share"] == pytest.approx(34.0 / (work + 34.0))


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("difficulty", "difficulty_histogram"),
        ("augmentation", "not_augmented_reasons"),
        ("rollout", "frac_reward_zero_std_unaugmented"),
        ("rollout", "examples"),
        ("training", "series"),
        ("promotion", "difference"),
    ],
)
def test_a_missing_figure_is_an_error_that_names_step_and_figure(arguments, step, name):
    with pytest.raises(MissingFigure, match=f"{step}.*results.{name} is missing"):
        write_report(**{**arguments, "reports": without(arguments["reports"], step, name)})


def test_a_curve_with_too_few_values_and_a_missing_step_are_errors(arguments):
    reports = arguments["reports"]
    training = next(report for report in reports if report.step == "training")
    series = {**training.results["series"], "entropy": [0.5]}
    short = training.model_copy(update={"results": {**training.results, "series": series}})
    with pytest.raises(MissingFigure, match="training, round 1: results.series.entropy"):
        write_report(**{**arguments, "reports": [short if report is training else report for report in reports]})
    with pytest.raises(MissingFigure, match="rollout, round 2: expected one report"):
        left = [report for report in reports if (report.step, report.round) != ("rollout", 2)]
        write_report(**{**arguments, "reports": left})


def test_scores_without_a_baseline_are_refused(arguments):
    with pytest.raises(MissingFigure, match="baseline"):
        write_report(**{**arguments, "scores_after": arguments["scores_before"]})


def test_two_equal_runs_differ_in_nothing_but_the_volatile_fields(arguments, summary, tmp_path):
    slower = [
        report.model_copy(update={"seconds": 2 * report.seconds + 1, "startup_seconds": 3.0})
        for report in arguments["reports"]
    ]
    context = arguments["context"].model_copy(update={"run_name": "another"})
    _, folder = write_report(**{**arguments, "reports": slower, "context": context})
    other = json.loads((folder / "summary.json").read_text())
    assert other != summary and stable(other) == stable(summary)
    assert "run_name" in other and "timings" in other  # the argument itself is left alone


def test_every_volatile_path_leads_to_a_field_of_the_summary(summary):
    def leads_somewhere(value, path):
        head, *rest = path
        if head == "*":
            return bool(value) and all(leads_somewhere(item, rest) for item in value)
        return head in value and (not rest or leads_somewhere(value[head], rest))

    assert [path for path in VOLATILE if not leads_somewhere(summary, path.split("."))] == []


def test_a_second_call_finds_the_first_ones_report(arguments, written):
    outputs, folder = write_report(**arguments)
    assert outputs == written[0] and folder == written[1]
