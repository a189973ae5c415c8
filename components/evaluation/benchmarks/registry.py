"""The table of benchmarks by name."""

from __future__ import annotations

from components.evaluation.benchmarks import (
    longvideobench,
    mmvu,
    mvbench,
    next_gqa,
    seed_bench_r1,
    tempcompass,
    video_mme,
    video_mmmu,
    vsi_bench,
)
from components.evaluation.benchmarks.contracts import Benchmark, BenchmarkError

_MODULES = (
    seed_bench_r1, longvideobench, next_gqa, vsi_bench, video_mmmu, mmvu, mvbench, tempcompass, video_mme,
)  # fmt: skip
BENCHMARKS: dict[str, Benchmark] = {module.BENCHMARK.name: module.BENCHMARK for module in _MODULES}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name. Raises BenchmarkError, listing the names, if there is none."""
    if name not in BENCHMARKS:
        raise BenchmarkError(f"--benchmark {name}: there is no such benchmark; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
