"""The report step: one HTML page, one JSON summary, a short Markdown, and the figures as PNG files."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.report import collect
from components.report.summary import Summary
from components.shared.context import StepContext
from components.shared.files import sha256_bytes
from components.shared.ledger import Outputs
from components.shared.reports import StepReport
from components.shared.schemas import ArtifactRef

PAGE, SUMMARY, MARKDOWN, PLOTS = "report.html", "summary.json", "report.md", "plots"


def write_report(
    dataset: ArtifactRef,
    base: ArtifactRef,
    policy: ArtifactRef,
    scores_before: ArtifactRef,
    scores_after: ArtifactRef,
    reports: Sequence[StepReport],
    settings: dict[str, Any],
    context: StepContext,
) -> tuple[Outputs, Path]:
    """Artifact `report`: report.html, summary.json, report.md and plots/*.png; also returns the folder that holds them.

    `base` and `policy` are the run's first and last policy, `reports` what the steps reported, `settings` all of the
    run's, a section a step. Raises MissingFigure if a step did not report a figure that the report shows.
    """
    store, ledger = context.open_store(), context.open_ledger()
    started = time.monotonic()
    told = [item.model_dump(mode="json") for item in reports]
    refs = {"dataset": dataset, "base": base, "policy": policy, "before": scores_before, "after": scores_after}
    inputs = {name: ref.digest for name, ref in refs.items()}
    key = ledger.key("report", inputs, {"settings": settings, "reports": told, "run": context.run_name}, context.seed)
    if done := ledger.finished(key):
        return done, store.get(done.artifacts["report"])

    from components.report import figures, page, rollouts
    from components.report.verdict import verdict
    from components.shared.dataset import DatasetReader
    from components.shared.scores import OVERALL, read_figures

    reader = DatasetReader(store.get(dataset))
    before: dict[str, Any] = read_figures(store.get(scores_before))
    after: dict[str, Any] = read_figures(store.get(scores_after))
    evaluation = collect.evaluation(before, after)
    promotion = collect.promotion(collect.only(reports, "promotion"))
    summary = Summary(
        run_name=context.run_name,
        seed=context.seed,
        settings_digest=sha256_bytes(json.dumps(settings, sort_keys=True).encode()),
        settings=settings,
        engines=collect.engines(reports),
        verdict=verdict(evaluation, promotion, after["confidence"]),
        data=collect.data(reader, dataset.digest),
        warmup=collect.warmup(reports),
        rounds=tuple(collect.rounds(reports)),
        training=collect.training_series(reports),
        evaluation=evaluation,
        promotion=promotion,
        base_policy_digest=base.digest,
        final_policy_digest=policy.digest,
        timings=collect.timings(reports),
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "report"
        drawn = figures.draw_all(summary, folder / PLOTS)
        (folder / PAGE).write_text(
            page.html(
                summary,
                drawn,
                confidence=after["confidence"],
                kinds=collect.kinds(before, after, OVERALL),
                examples=rollouts.examples(collect.rollouts(reports), reader),
                gained=collect.flips(store.get(scores_after), "gained"),
                lost=collect.flips(store.get(scores_after), "lost"),
            )
        )
        (folder / SUMMARY).write_text(json.dumps(summary.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")
        (folder / MARKDOWN).write_text(page.markdown(summary))
        written = store.put(folder, "report", {"run_name": context.run_name, "verdict": summary.verdict})
    results: dict[str, object] = {"verdict": summary.verdict, "promotion/promoted": summary.promotion.promoted}
    outputs = Outputs(artifacts={"report": written}, results=results, seconds=time.monotonic() - started)
    return ledger.finish(key, outputs), store.get(written)
