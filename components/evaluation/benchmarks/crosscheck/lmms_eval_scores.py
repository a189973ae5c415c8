"""Run by crosscheck's own environment, never imported: lmms-eval's task code on the responses that come on standard input.

In: a line a response, {"id", "task", "doc", "response", "judge_reply"}, of one benchmark. Out, in the same order:
{"id", "score", "read"}, or {"id", "error"} where lmms-eval raised; score null is outside its denominator. Then one line
{"figures": {task: what its own aggregation gives, or raised}}.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

MRA = "MRA:.5:.95:.05"


class RecordedJudge(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that says what the judge of the response at hand said; without a reply it is down."""

    reply: ClassVar[str | None] = None

    def do_POST(self) -> None:  # http.server's name
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"choices": [{"message": {"content": self.reply}}], "usage": {}}
        self.send_response(200 if self.reply is not None else 503)
        self.end_headers()
        self.wfile.write(json.dumps(message if self.reply is not None else {}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the log is no result."""


def load(task: str) -> ModuleType:
    """The task's module as it is installed. `lmms_eval.tasks` itself, an index of all tasks, is left out: scorers need none."""
    import lmms_eval

    package = ModuleType("lmms_eval.tasks")
    package.__path__ = [str(Path(lmms_eval.__path__[0]) / "tasks")]
    sys.modules["lmms_eval.tasks"] = package
    return importlib.import_module(f"lmms_eval.tasks.{task.split('_')[0]}.utils")


def process(module: ModuleType, line: dict[str, Any]) -> Any:
    """What lmms-eval's process_results makes of a response: the metric that its aggregation takes."""
    family, _, form = line["task"].partition("_")
    name = f"{family}_process_results" + (f"_{form}" if form else "")
    metrics = getattr(module, name)(line["doc"], [line["response"]])
    return next(iter(metrics.values()))


def score(module: ModuleType, task: str, metric: dict[str, Any]) -> float | None:
    """One response's share of the figure, as the aggregation counts it; None where that leaves it out."""
    if task == "longvideobench":
        return float(module.eval_multi_choice(metric["answer"], metric["parsed_pred"]))
    if task == "videommmu":
        return None if metric["parsed_pred"] == "API Error" else float(module.evaluate_videommmu([metric])[1]["acc"])
    if task == "vsibench":
        return float(metric["accuracy"] if "accuracy" in metric else metric[MRA])
    if task == "mvbench":
        return None if metric["pred_answer"] == "" else float(metric["score"])
    if task == "mmvu":
        return float(metric["correct"])
    if task == "videomme":
        return float(metric["pred_answer"] == metric["answer"])
    return float(metric["rating"] == 1)


def read(metric: dict[str, Any]) -> str:
    """What lmms-eval took for the answer, as far as it tells."""
    names = ("parsed_pred", "pred_answer", "chatgpt-answer", "video-llm-prediction", "prediction")
    return str(next(metric[name] for name in names if metric.get(name) is not None))


def figure(module: ModuleType, task: str, metrics: list[Any]) -> Any:
    """lmms-eval's own aggregation, or what it raised."""
    try:
        if task.startswith("tempcompass"):
            return float(module.tempcompass_aggregate_rating(metrics, None))
        name = "mmvu_aggregate_results_val" if task == "mmvu" else f"{task}_aggregate_results"
        return float(getattr(module, name)(metrics))
    except Exception as error:  # its message is the answer
        return f"{type(error).__name__}: {error}"


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # lmms-eval prints
    lines = [json.loads(line) for line in sys.stdin]
    judge = HTTPServer(("127.0.0.1", 0), RecordedJudge)
    threading.Thread(target=judge.serve_forever, daemon=True).start()
    os.environ |= {"API_TYPE": "openai", "OPENAI_API_URL": f"http://127.0.0.1:{judge.server_port}/v1/chat/completions"}
    time.sleep = lambda seconds: None  # between its questions to a judge that will not say anything else
    module = load(lines[0]["task"])
    random.seed(0)  # as its own evaluation begins
    metrics: dict[str, list[Any]] = {}
    for line in lines:
        RecordedJudge.reply = line["judge_reply"]
        try:
            metric = process(module, line)
            told = {"id": line["id"], "score": score(module, line["task"], metric), "read": read(metric)}
            metrics.setdefault(line["task"], []).append(metric)
        except Exception as error:  # a response that lmms-eval cannot score is a result
            told = {"id": line["id"], "error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(told) + "\n")
    out.write(json.dumps({"figures": {task: figure(module, task, found) for task, found in metrics.items()}}) + "\n")
    out.close()


if __name__ == "__main__":
    main()
