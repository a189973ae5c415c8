"""KFP face of the report."""

from kfp import dsl

from components.shared.face import step_component


@step_component("light")
def write_report(
    context: str,
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Model],
    policy: dsl.Input[dsl.Model],
    scores_before: dsl.Input[dsl.Dataset],
    scores_after: dsl.Input[dsl.Dataset],
    reports: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
):
    """Make the run's page and summary, attach them to the run in MLflow, and close it.

    Args:
        dataset: Reference to the samples and their frames.
        base: Reference to the base policy.
        policy: Reference to the trained policy.
        scores_before: Reference to the base policy's scores.
        scores_after: Reference to the trained policy's scores.
        report: Reference to the page, the summary and the plots.
        page: The page, self-contained.
        summary: The figures in short.
    """
    import json
    import shutil

    from components.report.step import write_report
    from components.shared.face import StepFace, read_reports
    from components.shared.runs import end_run
    from components.shared.tracking import finish_parent

    face = StepFace("report", context, settings)
    outputs, folder = write_report(
        face.ref(dataset),
        face.ref(base),
        face.ref(policy),
        face.ref(scores_before),
        face.ref(scores_after),
        read_reports(reports),
        json.loads(settings),
        face.context,
    )
    shutil.copyfile(folder / "report.html", page.path)
    shutil.copyfile(folder / "report.md", summary.path)
    face.finish(outputs, {"report": report}, metrics=metrics, earlier=reports)
    finish_parent(face.context)
    end_run(face.context.open_store(), face.context.run_name, "FINISHED")
