"""`deepvideo compare` and `deepvideo rollback` on a real MLflow on SQLite, with runs that steps have written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from components.promotion.registry import register
from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
from components.shared.tracking import finish_parent, resolve_champion, start_parent, track_step
from components.shared.tracking.client import open_client
from components.shared.tracking.registry import CHALLENGED_TAG
from pipelines import cli, compare_cli, rollback_cli

Said = tuple[int, str, str]
Command = Callable[..., Said]
MODEL = "deepvideo-policy"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs of one round: `first` from 40 to 60 per cent, `second` from 60 to 65, with another beta."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    for name, beta, before, after in (("first", 0.1, 0.4, 0.6), ("second", 0.2, 0.6, 0.65)):
        context = StepContext(store=str(folder / "store"), tracking_uri=uri, run_name=name)
        start_parent(context, {"training": {"beta": beta, "learning_rate": 1e-6}})
        track_step(context, "evaluation before", Outputs(results={"eval/L1/accuracy": before, "questions": 9}))
        figures = {
            "eval/L1/accuracy": after,
            "eval/L1/accuracy_difference": after - before,
            "eval/L1/accuracy_difference_low": after - before - 0.03,
            "eval/L1/accuracy_difference_high": after - before + 0.03,
        }
        track_step(context, "evaluation after", Outputs(results=figures), after_round=1)
        finish_parent(context)
    return uri


@pytest.fixture
def deepvideo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command in this process, in an empty folder and a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for module in (compare_cli, rollback_cli):
        monkeypatch.setattr(module, "console", Console(width=80))

    def command(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["deepvideo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(str(ended.value.code)), *capsys.readouterr()

    return command


def test_two_runs_are_compared_by_name_or_id_with_what_differs(deepvideo: Command, uri: str, tmp_path: Path) -> None:
    client = open_client(uri)
    (experiment,) = [item.experiment_id for item in client.search_experiments() if item.name == "deepvideo"]
    (own,) = client.search_runs([experiment], "tags.`deepvideo.run` = 'second' and tags.`deepvideo.step` = 'pipeline'")
    second = own.info.run_id
    code, said, told = deepvideo(
        "compare", "first", second, "--tracking-uri", uri, "--plot", str(tmp_path / "c" / "p.png")
    )
    assert code == 0, told
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "Held-out figures, per cent: base policy > trained policy, [interval of the gain]" in said
    row = lines.index("L1/accuracy 40.0 > 60.0 60.0 > 65.0 +5.0")
    assert lines[row + 1] == "[+17.0, +23.0] [+2.0, +8.0]"
    differ = said[said.index("Settings that differ") :]
    assert ["training.beta", "0.1", "0.2"] in [line.split() for line in differ.splitlines()]
    assert "learning_rate" not in said
    assert (tmp_path / "c" / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "the same" in deepvideo("compare", "first", "first", "--tracking-uri", uri)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("first",), "name two or more"),
        (("first", "third"), "has none of that name or id; the newest are second, first"),
        (("first", "second", "--plot", "p.txt"), "--plot p.txt: ends with .txt"),
    ],
)
def test_what_cannot_be_compared_is_told(deepvideo: Command, uri: str, arguments: tuple[str, ...], words: str) -> None:
    code, _, told = deepvideo("compare", *arguments, "--tracking-uri", uri)
    assert code == 2 and words in told
    assert "there is no runs/mlflow.db here" in deepvideo("compare", "first", "second")[2]


def champions(folder: Path, *challenged: str) -> tuple[str, list[ArtifactRef]]:
    """A registry in which each version was promoted after the one it challenged; its policies lie in a store."""
    uri, store = f"sqlite:///{folder}/mlflow.db", open_store(str(folder / "store"))
    client, refs = open_client(uri), []
    for index, rival in enumerate(challenged, 1):
        made = folder / f"policy-{index}"
        made.mkdir()
        (made / "weights").write_text(f"policy {index}")
        refs.append(store.put(made, "policy"))
        lineage = {CHALLENGED_TAG: rival} if rival else {}
        version = register(client, MODEL, refs[-1], f"run-{index}", lineage, "")
        client.set_registered_model_alias(MODEL, "champion", version)
    return uri, refs


def test_rollback_restores_what_was_champion_before_and_says_both(deepvideo: Command, tmp_path: Path) -> None:
    uri, refs = champions(tmp_path, "", "1", "", "2")  # version 3 was never promoted over another
    code, said, told = deepvideo("rollback", "--tracking-uri", uri)
    assert code == 0, told
    assert f"{MODEL}@champion was version 4 (policy {refs[3].digest[:12]}, of run run-4)" in said
    assert f"{MODEL}@champion is  version 2 (policy {refs[1].digest[:12]}, of run run-2)" in said
    found = resolve_champion(uri, MODEL)
    assert found and (found.version, found.policy.digest) == ("2", refs[1].digest)
    deepvideo("rollback", "--tracking-uri", uri)
    found = resolve_champion(uri, MODEL)
    assert found and found.version == "1"
    code, _, told = deepvideo("rollback", "--tracking-uri", uri)
    assert code == 2 and "does not say which version was champion before it; give --to VERSION: 4, 3, 2" in told
    assert deepvideo("rollback", "--to", "4", "--tracking-uri", uri)[0] == 0
    listed = deepvideo("rollback", "--list", "--tracking-uri", uri)[1].splitlines()
    assert [line.split()[:2] for line in listed[1:]][0] == ["4", "champion"] and len(listed) == 5


def test_rollback_refuses_what_is_not_there(deepvideo: Command, tmp_path: Path) -> None:
    uri, refs = champions(tmp_path, "", "1")
    asked = ("rollback", "--tracking-uri", uri)
    assert "has no version 9 of ours; it has 2, 1" in deepvideo(*asked, "--to", "9")[2]
    assert "has no alias 'best'" in deepvideo(*asked, "--alias", "best")[2]
    assert "no version of other" in deepvideo(*asked, "--registered-model", "other")[2]
    open_store(str(tmp_path / "store")).delete_objects(f"policy/{refs[0].digest}")
    code, _, told = deepvideo(*asked)
    assert code == 2 and "was deleted; choose another with --to" in told
    found = resolve_champion(uri, MODEL)
    assert found and found.version == "2"
