"""One question about one video, to any policy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.ingest.decode_worker import Unusable, video
from components.shared.generation import Prompt, make_sampler
from components.shared.schemas import ArtifactRef, Sample
from components.shared.store import open_store
from pipelines.run_folder import RunFolder
from pipelines.settings import RunSettings, SettingsError

_TEMPERATURE = 1.0


def ask_policy(
    path: Path, question: str, options: Sequence[str], policy: Path, samples: int, settings: RunSettings
) -> list[str]:
    """The policy's responses: the greedy one, or `samples` sampled ones. Raises SettingsError if something cannot be read."""
    frames, fps = _frames(path, settings)
    prompt = Prompt(key=path.name, sample=_sample(path, question, options), frames=frames, fps=fps)
    sampler = make_sampler(settings.generation)
    try:
        answered = sampler.sample(
            _policy_folder(policy),
            [prompt],
            n=samples,
            seeds=[settings.pipeline.seed],
            temperature=_TEMPERATURE if samples > 1 else 0.0,
            max_completion_length=settings.evaluation.max_completion_length,
        )
    finally:
        sampler.close()
    return [response.text for response in answered[0].responses]


def _sample(path: Path, question: str, options: Sequence[str]) -> Sample:
    # a sample must have an answer; the prompt does not show it
    if options:
        return Sample(
            id="asked", video=path.name, question=question, options=tuple(options), answer="A", task="multiple_choice"
        )
    return Sample(id="asked", video=path.name, question=question, answer="unknown", task="free_form")


def _frames(path: Path, settings: RunSettings) -> tuple[np.ndarray, float]:
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such video")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frames.npy"
        try:
            times = video(str(path), settings.ingest.frame_size, settings.ingest.num_frames, str(out))["timestamps"]
        except Unusable as problem:
            raise SettingsError(f"{path}: {problem}") from None
        return np.load(out, allow_pickle=False), (len(times) - 1) / (times[-1] - times[0])


def _policy_folder(policy: Path) -> Path:
    """A policy's own folder, or the trained policy of the finished run in that folder."""
    if (policy / "config.json").is_file():
        return policy
    folder = RunFolder(policy)
    if not folder.finished():
        raise SettingsError(f"--policy {policy}: is neither a model's folder nor that of a finished run")
    digest = folder.summary_values()["final_policy_digest"]
    ref = ArtifactRef(kind="policy", uri="", digest=digest, size=0)
    return open_store(str(folder.store)).get(ref)
