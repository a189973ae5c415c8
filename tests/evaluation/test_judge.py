"""Judges behind a real endpoint: what is asked again and what is not, what is kept, and how a bad judge ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.evaluation.benchmarks import BenchmarkError, find_benchmark
from components.evaluation.benchmarks.judge import Judge, JudgeError, JudgeFailed
from components.evaluation.benchmarks.judging import FAILURES_IN_A_ROW
from pipelines.cli import app
from pipelines.run_folder import RunRefused
from pipelines.score_cli import score_file

CASES = Path(__file__).with_name("cases")
RIGHT, WRONG = (json.dumps({"extracted_answer": "B", "correct": right}) for right in (True, False))
Reply = str | int | dict[str, Any]  # the judge's words, a status, or a whole body
MMVU = find_benchmark("mmvu")
OFFICIAL = MMVU.protocol("official")


class Endpoint:
    """An OpenAI-compatible endpoint: what it was asked, and what it says to the n-th request."""

    def __init__(self, url: str) -> None:
        self.url, self.asked = url, list[dict[str, Any]]()


@contextmanager
def endpoint(reply: Callable[[int], Reply]) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                found.asked.append(asked | {"path": self.path, "key": self.headers["Authorization"]})
                number = len(found.asked) - 1
            said = reply(number)
            self.send_response(said if isinstance(said, int) else 200)
            if said == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            body = said if isinstance(said, dict) else {"choices": [{"message": {"content": said}}]}
            if isinstance(said, int):
                body = {"error": f"not for {self.headers['Authorization']}"}
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Endpoint(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def in_turn(*replies: Reply) -> Callable[[int], Reply]:
    """One after another, the last one for ever."""
    return lambda number: replies[min(number, len(replies) - 1)]


def responses(path: Path, count: int, **more: Any) -> Path:
    doc = json.loads((CASES / "mmvu.jsonl").read_text().splitlines()[0])["doc"]
    rows = [
        {"id": str(i), "response": f"It is {i}", "doc": doc | {"id": f"validation_{i}"}} | more for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one_sample() -> Any:
    return MMVU.sample(json.loads((CASES / "mmvu.jsonl").read_text().splitlines()[0])["doc"])


def test_a_judge_is_asked_again_until_it_judges() -> None:
    assert OFFICIAL.judge
    with endpoint(in_turn(500, "what?", RIGHT)) as found:
        reply = Judge(found.url, "a-model", wait=0).reply(OFFICIAL, one_sample(), "I say B")
        assert OFFICIAL.judge.read(one_sample(), reply) == 1.0
    assert [asked["path"] for asked in found.asked] == ["/v1/chat/completions"] * 3
    assert found.asked[0]["model"] == "a-model" and "I say B" in found.asked[0]["messages"][1]["content"]
    with endpoint(in_turn("never")) as found:  # what it said last counts, and is no judgement
        assert Judge(found.url, "a-model", wait=0).reply(OFFICIAL, one_sample(), "B") == "never"
        assert len(found.asked) == OFFICIAL.judge.attempts


@pytest.mark.parametrize(
    ("reply", "attempts", "raised", "words"),
    [
        (503, 10, JudgeFailed, "HTTP 503"),
        (400, 1, JudgeFailed, "HTTP 400"),
        ({"no": "choices"}, 1, JudgeFailed, "no chat completion"),
        (401, 1, JudgeError, r"HTTP 401 Unauthorized: .*not for Bearer \*\*\*.*OPENAI_API_KEY right"),
        (404, 1, JudgeError, "HTTP 404 .*often in /v1"),
    ],
)
def test_only_what_may_pass_is_tried_again(
    reply: Reply, attempts: int, raised: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with endpoint(in_turn(reply)) as found, pytest.raises(raised, match=words):
        Judge(found.url, "a-model", wait=0).reply(OFFICIAL, one_sample(), "B")
    assert len(found.asked) == attempts and found.asked[0]["key"] == "Bearer sk-secret"


def test_a_busy_endpoint_is_given_the_time_it_asks_for() -> None:
    with endpoint(in_turn(429, RIGHT)) as found:
        began = time.monotonic()
        assert Judge(found.url, "a-model", wait=0).reply(OFFICIAL, one_sample(), "B") == RIGHT
        assert time.monotonic() - began >= 1.0


def test_a_result_with_a_judge_says_so(tmp_path: Path) -> None:
    file = responses(tmp_path / "a.jsonl", 2)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["judge_reply"] = "no JSON"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BenchmarkError, match="1 wait for a judge.*: name a judge with --judge-url, or aggregate"):
        score_file("mmvu", "official", file)
    with endpoint(in_turn(RIGHT)) as found:
        result = score_file("mmvu", "official", file, judge=Judge(found.url, "a-model"))
    assert (result["headline"]["value"], result["counts"]["judge_failures"], result["judge"]) == (0.5, 1, "a-model")
    assert len(found.asked) == 1  # what the file holds is not asked again


def test_a_reply_is_paid_for_once_and_known_by_all_that_determines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    file = responses(tmp_path / "a.jsonl", 6)
    with endpoint(lambda number: WRONG if number == 0 else RIGHT) as found:
        with_password = found.url.replace("//", "//user:hidden@")
        first = score_file("mmvu", "official", file, judge=Judge(with_password, "a-model"))
        assert len(found.asked) == 6 and first["headline"]["value"] == pytest.approx(5 / 6)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        assert score_file("mmvu", "official", file, judge=Judge(found.url, "a-model")) == first
        assert len(found.asked) == 6  # neither key nor password determine a reply
        score_file("mmvu", "official", file, judge=Judge(found.url, "b-model"))
        assert len(found.asked) == 12
        rows = file.read_text().splitlines()
        file.write_text("\n".join([rows[0].replace("It is 0", "It was 0"), *rows[1:]]))
        score_file("mmvu", "official", file, judge=Judge(found.url, "a-model"))
        assert len(found.asked) == 13
    kept = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(kept) == 13
    for path in kept:
        assert not any(word in str(path) + path.read_text() for word in ("secret", "sk-", "hidden"))


def test_a_judge_that_broke_off_is_asked_for_the_rest_alone(tmp_path: Path) -> None:
    file = responses(tmp_path / "a.jsonl", 8)
    with endpoint(lambda number: RIGHT if number < 3 or number > 3 else 401) as found:
        with pytest.raises(JudgeError, match="HTTP 401"):
            score_file("mmvu", "official", file, judge=Judge(found.url, "a-model", requests=1))
        assert len(found.asked) == 4
        result = score_file("mmvu", "official", file, judge=Judge(found.url, "a-model", requests=1))
        assert result["counts"]["judge_failures"] == 0 and result["headline"]["value"] == 1.0
        assert len(found.asked) == 8 + 1  # the one that was refused is asked twice


def test_several_requests_are_under_way_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def reply(number: int) -> Reply:
        together.wait(timeout=30)  # fails, and its request with it, unless four are here
        return RIGHT

    with endpoint(reply) as found:
        result = score_file(
            "mmvu", "official", responses(tmp_path / "a.jsonl", 8), judge=Judge(found.url, "m", requests=4, wait=0)
        )
    assert result["headline"]["value"] == 1.0 and len(found.asked) == 8


def test_failures_in_a_row_end_it_and_single_ones_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = responses(tmp_path / "a.jsonl", 40)
    with (
        endpoint(in_turn(500)) as found,
        pytest.raises(JudgeError, match=rf"failed for {FAILURES_IN_A_ROW} responses in a row.*HTTP 500"),
    ):
        score_file("mmvu", "official", file, judge=Judge(found.url, "m", requests=2, wait=0), allow_missing=True)
    assert len(found.asked) < 40 * 10 / 2
    told = capsys.readouterr().err
    assert "40 responses" in told and "HTTP 500" in told and "trying again" in told
    with endpoint(lambda number: 400 if number % 2 else RIGHT) as found:
        result = score_file("mmvu", "official", file, judge=Judge(found.url, "n", requests=1))
    assert (result["counts"]["judge_failures"], result["headline"]["value"]) == (20, 0.5)
    assert "40 of 40 responses" in capsys.readouterr().err


def test_a_judge_that_failed_for_everything_is_no_accuracy_of_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = responses(tmp_path / "a.jsonl", 3)
    command = ["score", "--benchmark", "mmvu", "--protocol", "official", "--input", str(file), "--judge-model", "m"]
    with endpoint(in_turn("I cannot say")) as found:
        done = CliRunner().invoke(app, [*command, "--judge-url", found.url])
        assert done.exit_code != 0 and isinstance(done.exception, RunRefused)
        assert "gave no judgement on any of 3 responses" in str(done.exception)
        assert "I cannot say" in str(done.exception) and "accuracy" not in done.output
        asked = len(found.asked)
        done = CliRunner().invoke(app, [*command, "--judge-url", found.url, "--allow-missing"])
        assert done.exit_code == 0 and "3 judge failures" in done.output and len(found.asked) == asked
    with endpoint(in_turn(400)) as found:
        done = CliRunner().invoke(app, [*command, "--judge-url", found.url])
        assert isinstance(done.exception, RunRefused) and "HTTP 400" in str(done.exception)


def test_a_recorded_reply_is_that_of_its_judge_and_of_the_whole_text(tmp_path: Path) -> None:
    file = responses(
        tmp_path / "a.jsonl", 2, judge_reply=RIGHT, judge_model="a", response="<think>no</think><answer>B</answer>"
    )
    assert score_file("mmvu", "official", file)["headline"]["value"] == 1.0
    with pytest.raises(BenchmarkError, match="2 wait for a judge"):
        score_file("mmvu", "official", file, unwrap=True)
    with endpoint(in_turn(WRONG)) as found:
        assert score_file("mmvu", "official", file, judge=Judge(found.url, "a"))["headline"]["value"] == 1.0
        assert not found.asked
        assert score_file("mmvu", "official", file, judge=Judge(found.url, "b"))["headline"]["value"] == 0.0
        score_file("mmvu", "official", file, judge=Judge(found.url, "a"), unwrap=True)
        assert len(found.asked) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--judge-url", "http://localhost:8000/v1"], "--judge-model: give the judge's model"),
        (["--judge-url", "localhost:8000", "--judge-model", "m"], "begins with http:// or https://"),
        (["--judge-url", "http://", "--judge-model", "m"], "--judge-url http://: expected an address"),
        (["--judge-url", "http://a:b/v1", "--judge-model", "m"], "--judge-url: is no address"),
        (["--judge-url", "http://a/v1?key=sk-x", "--judge-model", "m"], "http://a/v1: leave out what follows"),
        (["--judge-model", "m"], "with --judge-url"),
    ],
)
@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_judge_options_are_checked_first(command: str, options: list[str], words: str, tmp_path: Path) -> None:
    file = responses(tmp_path / "a.jsonl", 1)
    given = {
        "score": ["--benchmark", "mmvu", "--input", str(file)],
        "evaluate": ["--policy", "nowhere", "--benchmark", f"mmvu={tmp_path}", "--output", str(tmp_path / "out")],
    }[command]
    done = CliRunner().invoke(app, [command, *given, *options])
    assert isinstance(done.exception, RunRefused) and words in str(done.exception) and "sk-x" not in str(done.exception)
