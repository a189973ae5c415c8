"""Nine public benchmarks: loaders for the user's own copies, prompts, and scorers under named protocols."""

from components.evaluation.benchmarks.contracts import Benchmark, BenchmarkError, Scored, Scoring
from components.evaluation.benchmarks.registry import BENCHMARKS, find_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkError", "Scored", "Scoring", "find_benchmark"]
