"""The `deepvideo` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pipelines.pods.command import resources
from pipelines.settings import RunSettings, SettingsError, build_settings, load_preset, parse_assignments, preset_names
from pipelines.settings import parse_overrides as parse_yaml

app = typer.Typer(
    help="DeepVideo-R1: make a video language model reason better, by Reg-GRPO with difficulty-aware augmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)
app.command()(resources)

Preset = Annotated[str, typer.Option(help=f"Settings to start from: {', '.join(preset_names())}.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override one setting; repeatable.")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="YAML file of settings laid upon the preset.")]
Annotations = Annotated[str, typer.Option(help="Annotations: JSON, JSONL or Parquet; a path or s3://.")]
Videos = Annotated[str, typer.Option(help="Folder or s3:// prefix of the videos; default: beside the annotations.")]
Model = Annotated[str, typer.Option(help="Base model: a folder, s3://, or a hub id (with ingest.model_revision).")]
Rounds = Annotated[int | None, typer.Option(help="Rounds; more than a finished run has continues it.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything that is drawn at random.")]


def _settings(
    preset: str,
    file: Path | None = None,
    assignments: list[str] | None = None,
    **given: Any,
) -> RunSettings:
    """The settings from the preset, the file, the named options that were given, and the assignments, in this order."""
    layers = [load_preset(preset)]
    if file is not None:
        if not file.is_file():
            raise SettingsError(f"--settings {file}: there is no such file")
        layers.append(parse_yaml(file.read_text()))
    layers.append({name.replace("__", "."): value for name, value in given.items() if value not in (None, "")})
    layers.append(parse_assignments(assignments or []))
    return build_settings(*layers)


def _absolute(value: str) -> str:
    """A local path made absolute, since steps run elsewhere; anything else as it is."""
    return str(Path(value).absolute()) if value and Path(value).exists() else value


@app.command()
def run(
    preset: Preset = "laptop",
    output: Annotated[Path, typer.Option(help="Folder of the run; the same one continues it.")] = Path("runs/laptop"),
    annotations: Annotations = "",
    videos: Videos = "",
    model: Model = "",
    rounds: Rounds = None,
    seed: Seed = None,
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the run in the folder and start over.")] = False,
) -> None:
    """Run the whole pipeline on this machine. The same command continues a stopped run; a finished one prints its summary."""
    from pipelines.local_run import run_locally
    from pipelines.run_folder import RunFolder
    from pipelines.summary_text import print_summary

    settings = _settings(
        preset,
        settings_file,
        assignments,
        ingest__annotations=_absolute(annotations),
        ingest__videos=_absolute(videos),
        ingest__model=_absolute(model),
        pipeline__rounds=rounds,
        pipeline__seed=seed,
    )
    folder = RunFolder(output)
    with folder.locked():
        if fresh:
            folder.clear()
        folder.start(settings)
        if not folder.finished():
            console.print(
                f"[bold]DeepVideo-R1[/bold]  preset {preset}, {settings.pipeline.rounds} rounds, in {folder.root}"
            )
            run_locally(folder, settings, console)
        print_summary(folder, console)


@app.command("compile")
def compile_command(
    output: Annotated[Path, typer.Option(help="The IR YAML to write.")] = Path("pipeline.yaml"),
    preset: Preset = "laptop",
    rounds: Rounds = None,
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
) -> None:
    """Compile the pipeline to KFP's IR YAML, ready to upload."""
    from pipelines.dag import compile_pipeline

    settings = _settings(preset, settings_file, assignments, pipeline__rounds=rounds)
    path = compile_pipeline(settings, output)
    console.print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, {settings.pipeline.rounds} rounds")


@app.command("settings")
def settings_command(
    preset: Preset = "laptop", settings_file: SettingsFile = None, assignments: Assignments = None
) -> None:
    """List every setting: its value, unit, allowed range and meaning."""
    from pipelines.summary_text import print_settings

    print_settings(_settings(preset, settings_file, assignments), console)


@app.command()
def step(
    name: Annotated[str, typer.Argument(help="The step, as in `deepvideo step --help`: ingest, training, ...")],
    run_folder: Annotated[Path, typer.Option("--run", help="Folder of a local run, whose store is used.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=REF.json", help="Reference file of an input; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the references to what the step makes.")] = Path("step"),
    round_index: Annotated[int, typer.Option("--round", help="The round, from 1, for steps inside rounds.")] = 1,
    preset: Preset = "laptop",
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
) -> None:
    """Run one step alone, without KFP, on references that other steps made."""
    from pipelines.single_step import run_step

    settings = _settings(preset, settings_file, assignments)
    for made in run_step(
        name, run_folder, dict(item.split("=", 1) for item in inputs or []), output, round_index, settings
    ):
        console.print(str(made))


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(help="Folder of a finished local run.")]) -> None:
    """Print a finished run's summary and where its report is."""
    from pipelines.run_folder import RunFolder, RunRefused
    from pipelines.summary_text import print_summary

    folder = RunFolder(run_folder)
    if not folder.finished():
        raise RunRefused(f"{folder.root}: holds no finished run; start it with `deepvideo run --output {run_folder}`")
    print_summary(folder, console)


@app.command()
def ask(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    policy: Annotated[Path, typer.Option(help="Folder of a policy, or of a finished run (its trained policy).")],
    option: Annotated[
        list[str] | None, typer.Option(help="An option of a multiple-choice question; repeatable.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers: 1 is the greedy one, more are sampled.")] = 1,
    preset: Preset = "laptop",
    assignments: Assignments = None,
) -> None:
    """Ask one question about one video."""
    from pipelines.asking import ask_policy

    for text in ask_policy(video, question, tuple(option or ()), policy, samples, _settings(preset, None, assignments)):
        console.print(text, markup=False, highlight=False)


def main() -> None:
    """The entry point: errors that a user can act on are printed in red without a traceback, with exit code 2."""
    from components.ingest.errors import IngestError
    from components.shared.store import StoreError
    from pipelines.local_run import RunFailed
    from pipelines.run_folder import RunRefused

    try:
        app()
    except KeyboardInterrupt:
        errors.print("\nStopped. The same command continues where it stopped.")
        sys.exit(130)
    except (SettingsError, RunRefused, RunFailed, IngestError, StoreError) as error:
        errors.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        sys.exit(1 if isinstance(error, RunFailed) else 2)


if __name__ == "__main__":
    main()
