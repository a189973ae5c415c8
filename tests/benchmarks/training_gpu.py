"""Packed training steps of Qwen2.5-VL-3B and 7B, with random weights in bf16, on one GPU.

    python -m tests.benchmarks.training_gpu

Needs torch >= 2.11 and transformers >= 5.16, and nothing else; no file is fetched. A step is the project's packed forward
pass and Reg-GRPO loss, the backward pass, and AdamW with fp32 masters and moments; the vision tower's features are made
beforehand. The pass that scores a group under pi_old or the reference is timed apart. The 7B model's weights, gradients,
masters and moments take 122 GB, so its activations are recomputed in the backward pass (gradient checkpointing).

MFU: operations of the packed sequence (race/flops.py: forward, backward, optimizer; what the mask hides, recomputation and the
rows that packing avoids do not count) by seconds and by the device's dense bf16 peak. Running out of memory is a result.

Writes training_gpu.json and .md to the output folder; without a GPU it says so, writes nothing and ends with 0.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import transformers

from components.training.forward import PackedPolicy
from components.training.loss import group_losses
from components.training.packing import PackedBatch, batch, pack
from tests.benchmarks.race import flops
from tests.benchmarks.race.adamw import MasterAdamW
from tests.benchmarks.race.contestants import SETTINGS, loss_inputs
from tests.benchmarks.race.groups import MadeGroup, made_group
from tests.benchmarks.race.models import vision_language_model
from tests.benchmarks.race.shapes import QUICK, QWEN_3B, QWEN_7B, ModelShape, Point

RESULTS = Path(__file__).parent / "results"
GIB = 1 << 30
PEAK_TFLOPS = {  # dense bf16, from NVIDIA's data sheets; the first name found in the device's counts
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200": 989.0,
    "H20": 148.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
}


class Model(NamedTuple):
    """A model to measure."""

    shape: ModelShape
    gradient_checkpointing: bool


MODELS = {"3b": Model(QWEN_3B, False), "7b": Model(QWEN_7B, True), "tiny": Model(QUICK, True)}
# The paper's prompts have 648 to 729 vision tokens and a question; then the race's main point; then long ones.
POINTS = {
    "3b": (Point(1024, 512, 8), Point(2048, 128, 8), Point(4096, 512, 8)),
    "7b": (Point(1024, 512, 8), Point(2048, 128, 8), Point(4096, 512, 8)),
    "tiny": (Point(64, 8, 4), Point(128, 16, 2)),
}


class Bench:
    """One model on one device, and what is timed on it."""

    def __init__(self, model: Model, device: str) -> None:
        self.shape, self.device = model.shape, device
        loaded = vision_language_model(model.shape, dtype=torch.bfloat16, device=device)
        if model.gradient_checkpointing:
            loaded.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
            loaded.model.language_model.train()  # there is no dropout
        self.policy = PackedPolicy(loaded, (), SETTINGS.lm_head_chunk).to(device)
        self.optimizer = MasterAdamW(self.policy.parameters())

    def measure(self, point: Point, *, repetitions: int, may_start: Callable[[float], bool]) -> dict[str, Any]:
        """Times and memory at a point: a step, its optimizer alone, and a scoring pass. The first of each is not counted.

        `may_start` says whether something that takes so many seconds still may.
        """
        group = made_group(self.shape, point)
        sequence = batch([pack(group.prompt, group.responses.tolist())]).to(torch.device(self.device))
        features = group.features.to(self.device, torch.bfloat16)
        work = flops.packed_work(point)
        found: dict[str, Any] = {"point": point._asdict(), "tokens": work.tokens, "ended": None}
        try:
            if self.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            parts = self._repeat(lambda: self._step(group, sequence, features), repetitions, may_start)
            if self.device == "cuda":
                found["peak_bytes"] = torch.cuda.max_memory_allocated()
                found["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
            scoring = self._repeat(lambda: self._score(sequence, features), repetitions, may_start)
        except torch.OutOfMemoryError:
            self.policy.zero_grad(set_to_none=True)
            return {**found, "ended": "out of memory"}
        if not parts or not scoring:
            return {**found, "ended": "time was up"}
        found["step"] = self._figures([sum(part) for part in parts], work, self._operations(work), point)
        found["optimizer_seconds"] = median(part[1] for part in parts)
        found["scoring"] = self._figures([sum(part) for part in scoring], work, flops.forward(self.shape, work), point)
        return found

    def _repeat(
        self, run: Callable[[], tuple[float, ...]], repetitions: int, may_start: Callable[[float], bool]
    ) -> list[tuple[float, ...]]:
        times: list[tuple[float, ...]] = []
        while len(times) <= repetitions and may_start(sum(times[-1]) if times else 0.0):
            times.append(run())
        return times[1:]

    def _operations(self, work: flops.Work) -> int:
        return flops.step(self.shape, work) + flops.optimizer_step(self.shape)

    def _figures(self, seconds: list[float], work: flops.Work, operations: int, point: Point) -> dict[str, Any]:
        middle = median(seconds)
        return {
            "seconds": seconds,
            "median_seconds": middle,
            "tokens_per_second": work.tokens / middle,
            "response_tokens_per_second": point.generations * point.response / middle,
            "operations": operations,
            "operations_per_second": operations / middle,
        }

    def _step(self, group: MadeGroup, sequence: PackedBatch, features: torch.Tensor) -> tuple[float, float]:
        started = self._now()
        logprobs, _ = self.policy(sequence, features)
        group_losses(loss_inputs(group, logprobs), SETTINGS).loss.sum().backward()
        between = self._now()
        self.optimizer.step()
        return between - started, self._now() - between

    @torch.no_grad()
    def _score(self, sequence: PackedBatch, features: torch.Tensor) -> tuple[float]:
        started = self._now()
        self.policy(sequence, features)
        return (self._now() - started,)

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def peak_tflops(device: str, given: float | None) -> float | None:
    """The device's dense bf16 peak: `given`, or by its name; None if neither is known."""
    if given:
        return given
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device), None)


def table(content: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Packed training on one GPU",
        "",
        f"{content['date']}, {content['hardware']}, `{content['command']}`; {content['engines']}.",
        f"MFU by {content['peak_tflops'] or 'an unknown number of'} dense bf16 TFLOP/s.",
        "",
        "| model | prompt/response/G | step, s | of it AdamW | tokens/s | response tokens/s | MFU | peak, GiB"
        " | scoring, s | its MFU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in content["measured"]:
        head = f"| {entry['model']} | {Point(**entry['point']).name} |"
        if entry["ended"]:
            lines.append(f"{head} {entry['ended']} | | | | | | | |")
            continue
        step, scoring = entry["step"], entry["scoring"]
        memory = f"{entry['peak_bytes'] / GIB:.1f}" if "peak_bytes" in entry else ""
        lines.append(
            f"{head} {step['median_seconds']:.3f} | {entry['optimizer_seconds']:.3f} | {step['tokens_per_second']:.0f}"
            f" | {step['response_tokens_per_second']:.0f} | {_percent(step['mfu'])} | {memory}"
            f" | {scoring['median_seconds']:.3f} | {_percent(scoring['mfu'])} |"
        )
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["3b", "7b"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu shows that tiny runs, no more")
    parser.add_argument("--points", nargs="+", metavar="P/R/G", help="these points instead of each model's own")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8, help="nothing starts that would end later")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak, for a device that is not in the list")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("No GPU here: nothing was measured.")
        return
    end = time.monotonic() + 60 * arguments.minutes
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    peak = peak_tflops(name, arguments.peak_tflops)
    if peak is None:
        print(f"The bf16 peak of {name} is not known here, so there is no MFU: give --peak-tflops")
    measured = []
    for model in arguments.models:
        try:
            bench = Bench(MODELS[model], arguments.device)
        except torch.OutOfMemoryError:
            measured += [
                {"model": model, "point": point._asdict(), "ended": "out of memory"} for point in POINTS[model]
            ]
            continue
        chosen = arguments.points and [Point(*map(int, point.split("/"))) for point in arguments.points]
        for point in chosen or POINTS[model]:
            entry = bench.measure(
                point,
                repetitions=arguments.repetitions,
                may_start=lambda seconds: time.monotonic() + seconds <= end,
            )
            for part in ("step", "scoring"):
                if part in entry:
                    rate = entry[part]["operations_per_second"]
                    entry[part]["mfu"] = rate / (peak * 1e12) if peak else None
            measured.append({"model": model, "gradient_checkpointing": MODELS[model].gradient_checkpointing, **entry})
            seconds = entry["step"]["median_seconds"] if "step" in entry else float("nan")
            print(f"{model} {point.name}: {entry['ended'] or f'{seconds:.3f} s a step'}", flush=True)
        del bench
        gc.collect()
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
    content = {
        "date": date.today().isoformat(),
        "hardware": name,
        "command": " ".join(["python -m tests.benchmarks.training_gpu", *sys.argv[1:]]),
        "engines": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "peak_tflops": peak,
        "measured": measured,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "training_gpu.json").write_text(json.dumps(content, indent=1) + "\n")
    (arguments.output / "training_gpu.md").write_text(table(content))
    print(table(content))


if __name__ == "__main__":
    main()
