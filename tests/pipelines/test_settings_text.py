"""The list of settings, as a terminal of 80 or 120 columns shows it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines.settings import RunSettings, SettingsError, build_settings, fields, load_preset
from pipelines.settings_text import print_settings


def printed(wanted: str, settings: RunSettings, given: str = "", width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_settings(settings, console, wanted, given)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
def test_every_setting_stands_on_a_line_of_its_own_and_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = printed("", RunSettings(), width=width)
    assert [line.strip() for line in lines if line and not line[0].isspace()][: len(list(fields()))] == [
        name for name, _ in fields()
    ]
    assert max(map(len, lines)) <= width


def test_a_section_is_listed_alone() -> None:
    lines = printed("rollout", RunSettings())
    assert [line.strip() for line in lines if line.startswith("rollout")] == [
        "rollout.mix_original",
        "rollout.permute_rewards",
    ]
    assert not any(line.startswith("training") for line in lines)


def test_a_word_finds_names_and_meanings() -> None:
    names = [line.strip() for line in printed("kl", RunSettings()) if not line.startswith(" ")]
    assert {"training.beta", "training.kl_estimator", "training.kl_reference", "training.stop_kl"} <= set(names)


def test_a_presets_value_stands_beside_the_default_where_it_differs() -> None:
    text = " ".join(" ".join(printed("training", build_settings(load_preset("laptop")), "laptop")).split())
    assert "default: 0.1; laptop: 0.02; allowed: number >= 0" in text
    assert "default: 2; allowed: 1 | 2 | 3" in text  # zero_stage, which the preset leaves


def test_a_word_that_nothing_matches_names_the_sections() -> None:
    with pytest.raises(SettingsError, match="did you mean training"):
        printed("trainin_g", RunSettings())
