"""Promotion with a real registry on SQLite: who becomes the champion, why, and what a rerun or a rival changes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.promotion.gate import judge
from components.promotion.registry import move_alias
from components.promotion.settings import PromotionSettings
from components.promotion.step import promote
from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef
from components.shared.scores import ANSWERS, SCORES, Answer, Answered, answers_to_parquet
from components.shared.tracking import RegistryError, find_parent, resolve_champion
from components.shared.tracking.client import open_client

DATASET = ArtifactRef(kind="dataset", uri="file:///dataset", digest="d" * 64, size=1)


def policy(name: str) -> ArtifactRef:
    return ArtifactRef(kind="policy", uri=f"s3://bucket/policy/{name * 64}", digest=name * 64, size=1)


BASE, CANDIDATE, OTHER = policy("b"), policy("c"), policy("e")


def answers(level: str, right_of_four: list[int]) -> list[Answered]:
    """One question a video: so many of its four sampled answers are right."""
    return [
        Answered(
            sample_id=f"{level}-{index}",
            video=f"{level}-{index}.mp4",
            level=level,
            kind="where",
            task="multiple_choice",
            question="Where?",
            answer="A",
            sampled=tuple(Answer(text="A", reward=float(draw < right), parsed=True) for draw in range(4)),
        )
        for index, right in enumerate(right_of_four)
    ]


POOR = answers("promotion", [1] * 20) + answers("L1", [2] * 20)
GOOD = answers("promotion", [3] * 10 + [2] * 10) + answers("L1", [2] * 20)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture
def context(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> StepContext:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return StepContext(store=str(tmp_path / "store"), tracking_uri=uri, run_name="a run")


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> PromotionSettings:
    """Each test has a model of its own in the one registry."""
    return PromotionSettings(registered_model=request.node.name)


Scores = Callable[[ArtifactRef, list[Answered]], ArtifactRef]


@pytest.fixture
def scores(context: StepContext, tmp_path: Path) -> Scores:
    """Stores a scores artifact as evaluation writes it, as far as promotion reads it."""

    def store(scored: ArtifactRef, rows: list[Answered]) -> ArtifactRef:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / SCORES).write_text(json.dumps({"policy": scored.digest}))
        (folder / ANSWERS).write_bytes(answers_to_parquet(rows))
        return context.open_store().put(folder, "scores")

    return store


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return open_client(uri)


def run(
    scores: Scores,
    settings: PromotionSettings,
    context: StepContext,
    after: list[Answered],
    candidate: ArtifactRef = CANDIDATE,
    base: ArtifactRef = BASE,
    champion: str = "",
) -> Outputs:
    before, now = scores(base, POOR), scores(candidate, after)
    return promote(DATASET, base, candidate, before, now, settings, context, champion=champion)


def test_a_better_candidate_becomes_champion_with_its_lineage(
    scores: Scores, settings: PromotionSettings, context: StepContext, client: MlflowClient
) -> None:
    results = run(scores, settings, context, GOOD).results
    assert results["promoted"] is True
    # by hand: (10 * 3 + 10 * 2) / 80 - 20 / 80
    assert results["difference"] == pytest.approx(0.625 - 0.25)
    assert results["low"] > 0
    assert "+37.5 points" in results["reason"] and "no champion" in results["reason"]
    champion = resolve_champion(context.tracking_uri, settings.registered_model, "champion")
    assert champion is not None
    assert (champion.version, champion.policy) == ("1", CANDIDATE)
    version = client.get_model_version(settings.registered_model, "1")
    assert version.source == CANDIDATE.uri
    assert version.run_id == find_parent(client, context)
    assert version.tags["deepvideo.dataset"] == DATASET.digest
    assert version.tags["deepvideo.base"] == BASE.digest
    assert version.tags["deepvideo.candidate"] == CANDIDATE.digest
    assert version.tags["deepvideo.run"] == "a run"


def test_a_candidate_that_is_no_better_is_registered_and_not_promoted(
    scores: Scores, settings: PromotionSettings, context: StepContext
) -> None:
    results = run(scores, settings, context, POOR).results
    assert (results["promoted"], results["version"]) == (False, "1")
    assert "+0.0 points [+0.0, +0.0]" in results["reason"]
    assert resolve_champion(context.tracking_uri, settings.registered_model) is None


def test_a_gain_whose_interval_reaches_zero_is_not_enough(settings: PromotionSettings) -> None:
    """Better on 8 of 20 videos, worse on 7: the mean rises, the interval does not leave zero."""
    after = answers("promotion", [2] * 8 + [0] * 7 + [1] * 5)
    verdict = judge(after, POOR, POOR, settings, seed=0, rival="the base policy")
    assert verdict.difference.value > 0 > verdict.difference.low
    assert len(verdict.objections) == 1 and "not above zero" in verdict.objections[0]


@pytest.mark.parametrize(("lost", "objects"), [(1, False), (2, True)])
def test_a_held_out_level_may_lose_two_points_and_no_more(
    settings: PromotionSettings, lost: int, objects: bool
) -> None:
    """20 questions with 4 answers each: one answer is 1.25 points, two are 2.5."""
    before = answers("promotion", [1] * 20) + answers("L2", [2] * 20)
    after = answers("promotion", [3] * 20) + answers("L2", [1] * lost + [2] * (20 - lost))
    verdict = judge(after, before, before, settings, seed=0, rival="the base policy")
    assert [text.startswith(f"L2: accuracy -{1.25 * lost:.1f} points") for text in verdict.objections] == [
        True
    ] * objects


def test_one_video_is_no_evidence(settings: PromotionSettings) -> None:
    verdict = judge(answers("promotion", [4]), answers("promotion", [0]), [], settings, seed=0, rival="the base policy")
    assert "fewer than two videos" in verdict.objections[0]


def test_the_champion_is_the_rival_and_not_the_base(
    scores: Scores, settings: PromotionSettings, context: StepContext
) -> None:
    run(scores, settings, context, GOOD, candidate=OTHER)
    champion = resolve_champion(context.tracking_uri, settings.registered_model)
    assert champion is not None and champion.policy == OTHER
    later = context.model_copy(update={"run_name": "a later run"})
    of_champion = scores(OTHER, [row for row in GOOD if row.level == "promotion"])
    outputs = promote(
        DATASET,
        BASE,
        CANDIDATE,
        scores(BASE, POOR),
        scores(CANDIDATE, GOOD),
        settings,
        later,
        champion=champion.model_dump_json(),
        scores_champion=of_champion,
    )
    assert (outputs.results["promoted"], outputs.results["difference"]) == (False, 0.0)
    assert "champion version 1" in outputs.results["reason"]
    assert resolve_champion(context.tracking_uri, settings.registered_model) == champion


def test_a_champion_that_changed_during_the_run_is_not_overwritten(
    scores: Scores, settings: PromotionSettings, context: StepContext
) -> None:
    run(scores, settings, context.model_copy(update={"run_name": "a faster run"}), GOOD, candidate=OTHER)
    results = run(scores, settings, context, GOOD, champion="").results
    assert (results["promoted"], results["version"]) == (False, "2")
    assert results["reason"] == "alias 'champion' pointed to nothing when the run began, and to version 1 at its end"
    champion = resolve_champion(context.tracking_uri, settings.registered_model)
    assert champion is not None and champion.version == "1"


def test_a_rerun_after_a_kill_at_any_point_registers_nothing_twice_and_says_the_same(
    scores: Scores,
    settings: PromotionSettings,
    context: StepContext,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*arguments: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("components.promotion.registry.move_alias", killed)
        with pytest.raises(KeyboardInterrupt):  # after registering, before the alias
            run(scores, settings, context, GOOD)
    with monkeypatch.context() as patch:
        patch.setattr("components.shared.ledger.Ledger.finish", killed)
        with pytest.raises(KeyboardInterrupt):  # after the alias, before the ledger
            run(scores, settings, context, GOOD)
    results = run(scores, settings, context, GOOD).results
    assert (results["promoted"], results["version"]) == (True, "1")
    assert run(scores, settings, context, GOOD).results == results  # from the ledger
    assert len(client.search_model_versions(f"name='{settings.registered_model}'")) == 1


def test_moving_an_alias_notices_another_holder(client: MlflowClient) -> None:
    client.create_registered_model("alias test")
    for _ in range(3):
        client.create_model_version("alias test", "s3://bucket/policy")
    assert move_alias(client, "alias test", "champion", "", "1") == "1"
    assert move_alias(client, "alias test", "champion", "", "2") == "1"
    assert move_alias(client, "alias test", "champion", "1", "3") == "3"
    assert move_alias(client, "alias test", "champion", "1", "3") == "3"  # ours already


def test_without_a_registry_nothing_is_promoted_and_that_is_the_reason(
    scores: Scores, settings: PromotionSettings, context: StepContext
) -> None:
    results = run(scores, settings, context.model_copy(update={"tracking_uri": ""}), GOOD).results
    assert (results["promoted"], results["version"]) == (False, "")
    assert results["reason"] == "there is no tracking URI, and so no registry"


def test_a_registry_that_cannot_be_written_stops_the_step_unfinished(
    scores: Scores, settings: PromotionSettings, context: StepContext, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    broken = context.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/file/mlflow.db"})
    with pytest.raises(RegistryError, match="rerun"):
        run(scores, settings, broken, GOOD)
    with pytest.raises(RegistryError, match="cannot be read"):
        resolve_champion(broken.tracking_uri, settings.registered_model)


def test_scores_of_another_policy_are_refused(
    scores: Scores, settings: PromotionSettings, context: StepContext
) -> None:
    with pytest.raises(ValueError, match="scores_after"):
        promote(DATASET, BASE, CANDIDATE, scores(BASE, POOR), scores(OTHER, GOOD), settings, context)


def test_without_a_promotion_split_nothing_is_promoted_and_the_reason_says_so(settings: PromotionSettings) -> None:
    level = answers("L1", [1] * 3)
    verdict = judge(level, level, level, settings, seed=0, rival="the base policy")
    assert verdict.objections == ("promotion: the dataset has no such split with answers in it",)
    assert verdict.difference.value is None


def test_scores_over_other_questions_are_refused(settings: PromotionSettings) -> None:
    with pytest.raises(ValueError, match="same settings and seed"):
        judge(answers("promotion", [1] * 3), answers("promotion", [1] * 4), [], settings, seed=0, rival="the base")


def test_a_version_that_others_registered_is_no_champion_to_start_from(
    context: StepContext, client: MlflowClient
) -> None:
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "s3://bucket/model")
    client.set_registered_model_alias("foreign", "champion", "1")
    with pytest.raises(RegistryError, match="was not registered by this project"):
        resolve_champion(context.tracking_uri, "foreign")
