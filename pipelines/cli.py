"""The `deepvideo` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pipelines import artifacts_cli, schedule_cli, services_cli
from pipelines.compare_cli import app as compare_app
from pipelines.crosscheck_cli import app as crosscheck_app
from pipelines.evaluate_cli import app as evaluate_app
from pipelines.options import (
    Assignments,
    Preset,
    Rounds,
    SettingsFile,
    settings_from,
)
from pipelines.overrides import parse_assignments, read_overrides
from pipelines.pods.command import resources
from pipelines.rollback_cli import app as rollback_app
from pipelines.run_cli import app as run_app
from pipelines.score_cli import app as score_app
from pipelines.settings import SettingsError, build_settings, load_preset, preset_names
from pipelines.single_step import STEPS, parse_inputs, run_step
from pipelines.submit_cli import app as submit_app

app = typer.Typer(
    help="DeepVideo-R1: make a video language model reason better, by Reg-GRPO with difficulty-aware augmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(run_app)
app.add_typer(evaluate_app)
app.add_typer(score_app)
app.add_typer(crosscheck_app)
app.add_typer(submit_app)
app.add_typer(schedule_cli.app, name="schedule")
app.add_typer(compare_app)
app.add_typer(rollback_app)
app.add_typer(services_cli.app)
app.add_typer(artifacts_cli.app, name="artifacts")
console = Console()
errors = Console(stderr=True)
PLAIN: dict[str, Any] = {
    "markup": False,
    "highlight": False,
    "soft_wrap": True,
}  # text that may hold brackets and paths

PresetOrRun = Annotated[
    str, typer.Option(help=f"Settings to start from: {', '.join(preset_names())}; default: the run's own.")
]
RunFolderArgument = Annotated[Path, typer.Argument(help="Folder of a local run.")]


@app.command("compile")
def compile_command(
    output: Annotated[Path, typer.Option(help="The YAML to write.")] = Path("pipeline.yaml"),
    preset: Preset = "laptop",
    rounds: Rounds = None,
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
    manifests: Annotated[
        bool, typer.Option("--manifests", help="Write Kubernetes resources: KFP's Pipeline and PipelineVersion.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Namespace of these resources.")] = "",
) -> None:
    """Compile the pipeline to KFP's IR YAML, and say what is still to be set before a cluster can run it."""
    from pipelines.cluster import still_to_set
    from pipelines.dag import compile_pipeline
    from pipelines.manifests import version_name, write_manifests

    if output.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"--output {output}: is no name of a YAML file; give one that ends with .yaml")
    settings = settings_from(preset, settings_file, assignments, {"pipeline.rounds": rounds})
    path = compile_pipeline(settings, output)
    if manifests:
        write_manifests(path, output, version_name(preset, path), namespace)
    console.print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, {settings.pipeline.rounds} rounds", highlight=False)
    console.print("\nBefore it runs on a cluster:")
    for line in still_to_set(settings):
        console.print(Padding(Text(f"- {line}"), (0, 0, 0, 2)))


@app.command("settings")
def settings_command(
    wanted: Annotated[str, typer.Argument(metavar="WORD", help="A section, or a word in names or meanings.")] = "",
    preset: Annotated[str, typer.Option(help=f"Show its values as well: {', '.join(preset_names())}.")] = "",
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
) -> None:
    """List settings: name, meaning, default, allowed values and unit, and what a preset or file makes of them."""
    from pipelines.settings_text import print_settings

    defaults: dict[str, Any] = {}
    layers = [load_preset(preset) if preset else defaults, read_overrides(settings_file) if settings_file else defaults]
    layers.append(parse_assignments(assignments or []))
    origins = ("", f"{settings_file}: ", "--set ")
    given = " + ".join(filter(None, [preset, str(settings_file or ""), "--set" if assignments else ""]))
    print_settings(build_settings(*layers, origins=origins), console, wanted, given)


@app.command()
def step(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STEPS)}.")],
    run_folder: Annotated[
        Path, typer.Option("--run", help="Folder of a local run, whose store is used; ingest begins one.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=REF.json", help="Reference file of an input; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the references to what the step makes.")] = Path("step"),
    round_index: Annotated[int, typer.Option("--round", min=1, help="The round, for steps inside rounds.")] = 1,
    preset: PresetOrRun = "",
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
) -> None:
    """Run one step alone, without KFP, on references that other steps made."""
    from pipelines.step_text import print_step

    settings = settings_from(preset, settings_file, assignments, run_folder=run_folder)
    print_step(run_step(name, run_folder, parse_inputs(inputs or []), output, round_index, settings), console)


@app.command()
def report(run_folder: RunFolderArgument = Path("runs/laptop")) -> None:
    """Print a finished run's summary and where its report is."""
    from pipelines.run_folder import RunFolder
    from pipelines.summary_text import print_summary

    folder = RunFolder(run_folder)
    folder.require_finished()
    print_summary(folder, console)


@app.command()
def show(
    sample: Annotated[
        str, typer.Argument(help="A sample's id, as the report names it; without it some are listed.")
    ] = "",
    run_folder: Annotated[Path, typer.Option("--run", help="Folder of a local run.")] = Path("runs/laptop"),
) -> None:
    """Write a sample's frames as a video to look at, and print its question and answer."""
    from pipelines.run_folder import RunFolder
    from pipelines.showing import list_samples, show_sample

    if sample:
        show_sample(RunFolder(run_folder), sample, console)
    else:
        list_samples(RunFolder(run_folder), console)


@app.command()
def ask(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    policy: Annotated[Path, typer.Option(help="Folder of a run, whose trained policy is asked, or of a model.")] = Path(
        "runs/laptop"
    ),
    option: Annotated[
        list[str] | None, typer.Option(help="An option of a multiple-choice question; repeatable.")
    ] = None,
    task: Annotated[str, typer.Option(help="The question's task; default: multiple_choice or free_form.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Answers: 1 is the greedy one, more are sampled.")] = 1,
    preset: PresetOrRun = "",
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
) -> None:
    """Ask one question about one video, and show the answer and the reasoning apart."""
    from pipelines.asking import ask_policy, find_policy, make_sample, print_answers, print_question

    settings = settings_from(preset, settings_file, assignments, run_folder=policy)
    asked = make_sample(video.name, question, option or (), task, settings.ingest.prompt_template)
    found = find_policy(policy)
    with console.status("starting the engine"):
        times, responses = ask_policy(video, asked, found.folder, samples, settings)
    shown = f"{video}: {len(times)} frames of {settings.ingest.frame_size} x {settings.ingest.frame_size} pixels"
    how = "greedy" if samples == 1 else f"{samples} answers sampled at temperature 1"
    print_question(asked, {"Policy": f"{found.words}, {how}", "Video": shown}, console)
    print_answers(asked, responses, console)


app.command()(resources)


def main() -> None:
    """The entry point: errors that a user can act on are printed in red without a traceback, with exit code 2."""
    from components.ingest.errors import IngestError
    from components.shared.rewards import RewardError
    from components.shared.store import StoreError
    from components.shared.tracking import RegistryError
    from pipelines.run_folder import RunRefused
    from pipelines.triggers.errors import ClusterError

    try:
        app()
    except KeyboardInterrupt:
        errors.print("\nStopped.")
        sys.exit(130)
    except (SettingsError, RunRefused, IngestError, RewardError, StoreError, RegistryError, ClusterError) as error:
        errors.print(str(error), style="red", **PLAIN)
        sys.exit(2)


if __name__ == "__main__":
    main()
