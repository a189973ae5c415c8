"""`deepvideo evaluate` on small copies of all nine benchmarks, answered by the tiny model through vLLM: one engine for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from components.evaluation.benchmarks import BENCHMARKS, engine, find_benchmark
from components.evaluation.benchmarks.contracts import Decoding
from components.evaluation.benchmarks.engine import Asked, BenchmarkEngine, chat_text
from components.evaluation.benchmarks.strict import GREEDY
from components.ingest.base_model import TINY_WEIGHTS
from components.shared.generation import GenerationSettings, Prompt
from components.shared.policy_inputs import load_processor, render
from components.shared.prompts import question_text
from pipelines.benchmarking.evaluate import Changes
from pipelines.cli import app
from pipelines.run_folder import RunRefused
from pipelines.score_cli import score_file
from pipelines.settings import SettingsError
from tests.benchmark_copies import write_copy
from tests.services.http_server import Answer, Request, http_server
from tests.videos import write_video

SHORT = ["--max-frames", "4", "--max-new-tokens", "16", "--max-pixels", "12544"]  # 16 vision tokens a pair of frames
Said = tuple[int, str, BaseException | None]


class SharedEngine(BenchmarkEngine):
    """The real engine, which stays up from one command to the next."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[SharedEngine]:
    made = SharedEngine(GenerationSettings(max_model_len=4096), images=True)
    yield made
    BenchmarkEngine.close(made)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int]]:
    """Each benchmark's folder, and how many items it has."""
    root = tmp_path_factory.mktemp("copies")
    return {name: (root / name, write_copy(name, root / name)) for name in BENCHMARKS}


@pytest.fixture
def evaluate(shared_engine: SharedEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The command with the shared engine: exit code, what it printed, and why it was refused."""
    monkeypatch.setattr(engine, "BenchmarkEngine", lambda settings, images: shared_engine)
    monkeypatch.setenv("COLUMNS", "120")

    def command(output: Path, given: dict[str, Path], *more: str) -> Said:
        pairs = [word for name, root in given.items() for word in ("--benchmark", f"{name}={root}")]
        done = CliRunner().invoke(app, ["evaluate", "--policy", "tiny", "--output", str(output), *pairs, *SHORT, *more])
        return done.exit_code, done.output, done.exception

    return command


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


def asked(output: Path) -> Counter[tuple[str, str, str]]:
    """How often each item was asked, by benchmark and protocol."""
    rows = [json.loads(line) for line in (output / "asked.jsonl").read_text().splitlines()]
    return Counter((row["benchmark"], row["protocol"], item) for row in rows for item in row["items"])


def result(output: Path, name: str) -> dict[str, Any]:
    return json.loads((output / f"{name}.json").read_text())


def test_all_nine_benchmarks_are_asked_once_and_scored(
    evaluate: Callable[..., Said], copies: dict[str, tuple[Path, int]], output: Path
) -> None:
    folders = {name: root for name, (root, _) in copies.items()}
    code, told, _ = evaluate(output, folders)
    assert code == 1 and "1 wait for a judge" in told.replace("\n", " ")  # TempCompass's caption
    first = asked(output)
    assert set(first.values()) == {1} and len(first) == sum(count for _, count in copies.values())
    assert not (output / "tempcompass.strict.json").exists()

    code, told, _ = evaluate(output, folders, "--allow-missing")
    assert code == 0 and asked(output) == first  # nothing was asked again
    for name, (root, count) in copies.items():
        made = result(output, f"{name}.strict")
        scored = count - (1 if name == "tempcompass" else 0)
        assert (made["counts"]["expected"], made["counts"]["scored"]) == (count, scored)
        assert made["changed"] == {"max_frames": 4, "max_new_tokens": 16, "max_pixels": 12544}
        responses = output / f"{name}.strict.responses.jsonl"
        again = score_file(name, "strict", responses, root, allow_missing=True)
        assert again == {key: made[key] for key in again}  # `deepvideo score` reads the file, and agrees
    figure = result(output, "tempcompass.strict")["overall"]["figures"]["accuracy"]
    assert figure["over_expected"] <= figure["value"] or figure["value"] == 0
    assert all(f"Table {number}" in told for number in (1, 2, 3)) and "36.8" in told and "yours" in told
    assert "(the paper's: video_r1)" in told and "parse failures" in told


@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_every_protocol_is_asked_in_its_own_words(
    evaluate: Callable[..., Said], copies: dict[str, tuple[Path, int]], output: Path, protocol: str
) -> None:
    folders = {name: root for name, (root, _) in copies.items()}
    code, told, _ = evaluate(output, folders, "--protocol", protocol, "--limit", "2", "--allow-missing")
    assert code == 0, told
    for name in BENCHMARKS:
        named = find_benchmark(name).protocol(protocol).name
        made = result(output, f"{name}.{named}")
        assert made["protocol"] == named and made["counts"]["expected"] == min(2, copies[name][1])
        assert made["decoding"]["temperature"] == find_benchmark(name).protocol(protocol).decoding.temperature
    if protocol == "official":
        assert result(output, "mmvu.official")["counts"]["needs_judge"] == 2  # it has no rules of its own
        lines = (output / "mvbench.official.responses.jsonl").read_text().splitlines()
        assert all(json.loads(line)["response"].startswith("(") for line in lines)  # the protocol's own prefix
        assert all("\n" not in json.loads(line)["response"] for line in lines)
    if protocol == "paper":  # NExT-GQA's two public protocols ask the same: the store had the answers
        counted = {named for _, named, _ in asked(output)}
        assert "videochat_r1" not in counted and {"official", "video_r1", "seed_bench_r1"} <= counted


def test_bad_videos_are_set_apart_and_counted_and_mended_ones_alone_are_asked(
    evaluate: Callable[..., Said], tmp_path: Path
) -> None:
    copy, output = tmp_path / "copy", tmp_path / "out"
    count = write_copy("vsi_bench", copy)
    benchmark = find_benchmark("vsi_bench")
    samples = [benchmark.sample(row) for row in benchmark.rows(copy)]
    bad = copy / samples[0].video
    good = bad.read_bytes()
    hurt = [sample.id for sample in samples if sample.video == samples[0].video]
    bad.write_bytes(good[: len(good) // 2])
    code, told, _ = evaluate(output, {"vsi_bench": copy})
    told = " ".join(told.split())
    assert code == 1 and f"{len(hurt)} of {count} items have no score" in told and "truncated" in told
    assert "mend what vsi_bench.strict.quarantine.jsonl names" in told and "complete the file" not in told
    code, told, _ = evaluate(output, {"vsi_bench": copy}, "--allow-missing")
    made = result(output, "vsi_bench.strict")
    assert code == 0 and made["counts"]["errors"] == len(hurt) and f"{count - len(hurt)} / {count}" in told
    [row] = [json.loads(line) for line in (output / "vsi_bench.strict.quarantine.jsonl").read_text().splitlines()]
    assert (row["item"], row["reason"], row["samples"]) == (samples[0].video, "truncated", len(hurt))
    before = asked(output)
    assert not {item for _, _, item in before} & set(hurt)
    bad.write_bytes(good)
    code, _, _ = evaluate(output, {"vsi_bench": copy})
    assert code == 0 and {item for _, _, item in asked(output) - before} == set(hurt)
    assert set(asked(output).values()) == {1}
    write_video(bad, frames=24, fps=8, seed=99)  # another content under the same name: its questions are new ones
    code, _, _ = evaluate(output, {"vsi_bench": copy})
    assert code == 0 and {item for (_, _, item), times in asked(output).items() if times == 2} == set(hurt)


def test_shards_share_a_store_and_one_command_puts_them_together(
    evaluate: Callable[..., Said], copies: dict[str, tuple[Path, int]], tmp_path: Path
) -> None:
    root, count = copies["mmvu"]
    more = ("--store", str(tmp_path / "store"), "--set", "evaluation.chunk_questions=4")
    for part in (1, 2):
        assert evaluate(tmp_path / f"part{part}", {"mmvu": root}, *more, "--shard", f"{part}/2")[0] == 0
    parts = [{item for _, _, item in asked(tmp_path / f"part{part}")} for part in (1, 2)]
    assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == count
    assert evaluate(tmp_path / "all", {"mmvu": root}, *more)[0] == 0
    assert not (tmp_path / "all/asked.jsonl").exists()
    assert result(tmp_path / "all", "mmvu.strict")["counts"]["scored"] == count


def test_a_question_that_is_too_long_is_counted_not_cut(evaluate: Callable[..., Said], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    write_copy("mmvu", copy)
    rows = json.loads((copy / "data/validation.json").read_text())
    rows[0]["question"] = "why? " * 4000
    (copy / "data/validation.json").write_text(json.dumps(rows[:3]))
    code, told, _ = evaluate(tmp_path / "out", {"mmvu": copy}, "--allow-missing")
    assert code == 0 and result(tmp_path / "out", "mmvu.strict")["counts"]["errors"] == 1
    assert "do not fit into generation.max_model_len = 4096" in " ".join(told.split())


def test_a_judge_is_asked_once_and_its_replies_stand_in_the_responses(
    evaluate: Callable[..., Said], copies: dict[str, tuple[Path, int]], tmp_path: Path
) -> None:
    root, count = copies["mmvu"]
    judgement = json.dumps({"extracted_answer": "A", "correct": True})

    def reply(request: Request) -> Answer:
        if request.content["model"] == "a-jugde":
            return 404, {"error": {"message": "no such model"}}
        return 200, {"choices": [{"message": {"content": judgement}}]}

    with http_server(reply) as server:
        more = ("--protocol", "official", "--judge-url", f"{server.url}/v1", "--judge-model", "a-judge")
        assert evaluate(tmp_path, {"mmvu": root}, *more[:-1], "a-jugde")[0] == 1
        server.requests.clear()
        code, told, _ = evaluate(tmp_path, {"mmvu": root}, *more)  # there is no result yet that this could overwrite
        assert code == 0 and len(server.requests) == count, told
        made = result(tmp_path, "mmvu.official")
        assert (made["headline"]["value"], made["judge"]) == (1.0, "a-judge")
        responses = tmp_path / "mmvu.official.responses.jsonl"
        lines = [json.loads(line) for line in responses.read_text().splitlines()]
        assert {(line["judge_reply"], line["judge_model"]) for line in lines} == {(judgement, "a-judge")}
        assert evaluate(tmp_path, {"mmvu": root}, *more)[0] == 0 and result(tmp_path, "mmvu.official") == made
        assert len(server.requests) == count  # the store had the replies
        code, _, error = evaluate(tmp_path, {"mmvu": root}, *more[:-1], "another")
        assert isinstance(error, RunRefused) and "--judge-model was 'a-judge', is 'another'" in str(error)
        code, _, error = evaluate(tmp_path, {"mmvu": root}, *more[:2], "--allow-missing")
        assert isinstance(error, RunRefused) and "--judge-model was 'a-judge', is none" in str(error)
        assert len(server.requests) == count
    assert score_file("mmvu", "official", responses, root)["headline"]["value"] == 1.0


def test_another_evaluation_does_not_overwrite_the_folder(
    evaluate: Callable[..., Said], copies: dict[str, tuple[Path, int]], tmp_path: Path
) -> None:
    root, count = copies["mmvu"]
    code, told, _ = evaluate(tmp_path / "out", {"mmvu": root})
    assert code == 0
    assert f"MMVU (multiple choice): {count} of {count} questions" in told  # no terminal: lines instead of a bar
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("mmvu.*")}
    for more, words in (
        (("--limit", "2"), "--limit was none, is 2"),
        (("--max-new-tokens", "8"), "--max-new-tokens was 16, is 8"),
        (("--set", "pipeline.seed=5"), "pipeline.seed was"),
    ):
        code, _, error = evaluate(tmp_path / "out", {"mmvu": root}, *more)
        assert isinstance(error, RunRefused) and words in str(error) and "name another folder" in str(error)
    assert {path: path.read_bytes() for path in before} == before
    more = ("--limit", "2", "--store", str(tmp_path / "out/store"))
    assert evaluate(tmp_path / "part", {"mmvu": root}, *more)[0] == 0
    assert not (tmp_path / "part/asked.jsonl").exists()  # the other folder's answers serve


def test_the_strict_prompt_is_the_one_that_training_uses() -> None:
    processor = load_processor(TINY_WEIGHTS)
    sample = find_benchmark("mmvu").sample(
        {"id": "1", "video": "videos/a/1.mp4", "question": "Why?", "choices": {"A": "x", "B": "y"}, "answer": "A"}
    )
    shown = Prompt(key="1", sample=sample, frames=np.zeros((2, 56, 56, 3), np.uint8), fps=1.0)
    asked = Asked(shown, question_text(sample), seed=0)
    assert chat_text(processor, asked, GREEDY, text_first=False) == render(processor, shown)
    prefilled = Decoding(temperature=0.0, max_new_tokens=1, prefill="Best option:(")
    turned = chat_text(processor, asked, prefilled, text_first=True)
    assert turned.endswith("Best option:(") and turned.index("Why?") < turned.index("<|video_pad|>")


def test_changes_bring_every_frame_policy_below_their_bounds() -> None:
    for benchmark in BENCHMARKS.values():
        for protocol in benchmark.protocols:
            changed = Changes(max_frames=2, max_pixels=28 * 28 * 20).apply(protocol).frames
            assert (changed.max_frames, changed.min_frames, changed.size) == (2, 2, None)
            assert changed.min_pixels and changed.min_pixels * 1.05 <= 28 * 28 * 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "nowhere", "--benchmark", "mmvu=."], "--policy nowhere: is no model's folder"),
        (["--policy", "tiny", "--benchmark", "mmvu"], "--benchmark mmvu: expected NAME=FOLDER"),
        (["--policy", "tiny", "--benchmark", "mmvu=nowhere"], "there is no such folder"),
        (["--policy", "tiny", "--benchmark", "mmlu=tests"], "there is no such benchmark"),
        (["--policy", "tiny", "--benchmark", "mmvu=tests"], "lacks data/validation.json or validation.json"),
        (["--policy", "tiny", "--benchmark", "mmvu=tests", "--protocol", "videochat_r1"], "no such protocol"),
        (["--policy", "tiny", "--benchmark", "mmvu=tests", "--shard", "3/2"], "expected K/N"),
        (["--policy", "tiny", "--benchmark", "mmvu=tests", "--set", "generation.engine=transformers"], "by vllm"),
        (
            ["--policy", "tiny", "--benchmark", "mmvu=tests", "--set", "training.beta=1"],
            "--set training.beta: of no effect on benchmarks",
        ),
        (["--policy", "models:/p@champion", "--benchmark", "mmvu=tests"], "give --tracking-uri"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", *arguments, "--output", str(tmp_path / "out")])
    assert isinstance(done.exception, (RunRefused, SettingsError)) and words in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_missing_videos_are_named_before_an_engine_starts(copies: dict[str, tuple[Path, int]], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    write_copy("video_mme", copy)
    gone = next((copy / "data").iterdir())
    gone.unlink()
    command = ["evaluate", "--policy", "tiny", "--benchmark", f"video_mme={copy}", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, RunRefused) and f"such as data/{gone.name}" in str(done.exception)
    assert "--check` lists all" in str(done.exception) and not (tmp_path / "out").exists()
