"""`deepvideo artifacts` on a store in a folder and on a real S3 server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.promotion.registry import register
from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.runs import begin_run, end_run
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
from components.shared.tracking.client import open_client
from pipelines import artifacts_cli, cli
from pipelines.containers.radosgw import Bucket


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def deepvideo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`deepvideo artifacts` in this process, through the entry point, on a wide terminal."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(artifacts_cli.console, "width", 250)
    monkeypatch.setattr(cli.errors, "width", 250)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["deepvideo", "artifacts", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return Done(int(exit_.value.code or 0), *capsys.readouterr())

    return run


def history(store_uri: str, scratch: Path) -> dict[str, ArtifactRef]:
    """A dataset and a policy trained on it, in round 2 of the run `first`; `second` came later and made nothing."""
    store = open_store(store_uri)

    def put(kind: str, text: str, **metadata: int) -> ArtifactRef:
        folder = scratch / kind
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)
        return store.put(folder, kind, metadata)

    context = StepContext(store=store_uri, run_name="first", round=2)
    begin_run(store, "first")
    ledger = context.open_ledger()
    key = ledger.key("ingest", {"data": "f" * 64}, {}, 0)
    refs = {"dataset": put("dataset", "samples", samples=3)}
    ledger.finish(key, Outputs(artifacts=refs))
    key = ledger.key("training", {"dataset": refs["dataset"].digest}, {}, 0)
    refs["policy"] = put("policy", "weights")
    ledger.finish(key, Outputs(artifacts={"policy": refs["policy"]}))
    end_run(store, "first", "FINISHED")
    begin_run(store, "second")
    return refs


def test_versions_are_listed_shown_with_their_lineage_and_got_verified(tmp_path: Path, deepvideo: Command) -> None:
    refs = history(str(tmp_path / "run" / "store"), tmp_path / "made")
    where = ("--store", str(tmp_path / "run"))  # a run's folder
    listed = deepvideo("ls", *where)
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()[1:-1]]
    assert [row[:2] for row in rows] == [[ref.kind, ref.digest[:12]] for ref in refs.values()]
    assert "training, round 2" in listed.stdout and "2 versions" in listed.stdout
    assert "1 versions" in deepvideo("ls", *where, "--kind", "policy").stdout
    assert "2 versions" in deepvideo("ls", *where, "--run", "first").stdout
    assert "0 versions" in deepvideo("ls", *where, "--run", "second").stdout
    shown = deepvideo("show", refs["dataset"].digest[:8], *where).stdout
    for text in (
        f"dataset/{refs['dataset'].digest}",
        "file  7 bytes",
        "made by ingest, round 2, of run first",
        "samples = 3",
        f"from data: {'f' * 64} (no version",
        "used by training, round 2, of run first as dataset",
    ):
        assert text in shown  # fmt: skip
    assert f"from dataset: dataset/{refs['dataset'].digest}" in deepvideo("show", refs["policy"].digest, *where).stdout
    got = deepvideo("get", f"policy/{refs['policy'].digest[:8]}", str(tmp_path / "out"), *where)
    assert "verified" in got.stdout and (tmp_path / "out" / "file").read_text() == "weights"
    again = deepvideo("get", refs["policy"].digest, str(tmp_path / "out"), *where)
    assert again.returncode == 2 and "not an empty folder" in again.stderr


def test_a_version_whose_bytes_changed_in_the_same_size_is_not_given_out(tmp_path: Path, deepvideo: Command) -> None:
    refs = history(str(tmp_path / "store"), tmp_path / "made")
    (tmp_path / "store" / "policy" / refs["policy"].digest / "file").write_text("Weights")
    got = deepvideo("get", refs["policy"].digest, str(tmp_path / "out"), "--store", str(tmp_path / "store"))
    assert got.returncode == 2 and "does not match its SHA-256" in got.stderr
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("ls", "--store", "absent"), "there is no such folder"),
        (("ls", "--store", "{store}/policy"), "policy: there is no store in it; give --store"),
        (("show", "zzz", "--store", "{store}"), "'zzz': is no hexadecimal digest"),
        (("get", "policy/dataset", "{store}", "--store", "{store}"), "'policy/dataset': is no hexadecimal digest"),
        (("show", "0000", "--store", "{store}"), "there is no such version"),
        (("ls", "--kind", "polcy", "--store", "{store}"), "--kind polcy: is unknown; there are dataset, policy"),
        (("ls", "--run", "x", "--store", "{store}"), "knows no such run; it knows second, first"),
        (("gc", "--store", "{store}"), "give --tracking-uri, whose aliases protect versions, or --no-registry"),
        (("gc", "--store", "{store}", "--tracking-uri", "http://127.0.0.1:9"), "registry at http://127.0.0.1:9 cannot"),
        (("gc", "--store", "{store}", "--no-registry", "--set", "store.sse=x"), "store.sse"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_remedy(
    tmp_path: Path, deepvideo: Command, arguments: tuple[str, ...], error: str
) -> None:
    history(str(tmp_path / "store"), tmp_path / "made")
    done = deepvideo(*(part.format(store=tmp_path / "store") for part in arguments))
    assert done.returncode == 2 and error in " ".join(done.stderr.split())


def test_gc_is_dry_by_default_and_an_alias_in_the_registry_protects_what_its_policy_came_from(
    tmp_path: Path, deepvideo: Command
) -> None:
    store_uri = str(tmp_path / "run" / "store")
    refs, other = history(store_uri, tmp_path / "made"), tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("nobody needs this")
    garbage = open_store(store_uri).put(other, "policy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"  # beside the run's folder, where local runs have it
    client = open_client(uri)
    version = register(client, "model", refs["policy"], "first", {}, "")
    client.set_registered_model_alias("model", "champion", version)
    options = ("--store", str(tmp_path / "run"), "--keep-runs", "0", "--older-than", "0")
    dry = deepvideo("gc", *options)
    assert dry.returncode == 0, dry.stderr
    assert f"alias champion: {refs['policy'].digest[:12]}" in dry.stdout and "Nothing was deleted" in dry.stdout
    assert f"would delete policy/{garbage.digest}" in dry.stdout and "Would delete 1 versions" in dry.stdout
    assert len(open_store(store_uri).versions()) == 3
    assert "Deleted 1 versions" in deepvideo("gc", *options, "--delete").stdout
    assert set(open_store(store_uri).versions()) == {f"{ref.kind}/{ref.digest}" for ref in refs.values()}
    client.delete_registered_model_alias("model", "champion")
    assert "Deleted 2 versions" in deepvideo("gc", *options, "--delete").stdout


def test_the_same_on_s3_and_every_version_in_the_bucket_can_be_got(
    bucket: Bucket, tmp_path: Path, deepvideo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = history(f"{bucket.uri}/p", tmp_path / "made")
    where = ("--store", f"{bucket.uri}/p")
    assert "2 versions" in deepvideo("ls", *where).stdout
    monkeypatch.setenv("DEEPVIDEO_CACHE", str(tmp_path / "fresh"))
    for name, ref in refs.items():
        got = deepvideo("get", ref.digest[:10], str(tmp_path / name), *where)
        assert "verified" in got.stdout, got.stderr
    assert "Nothing was deleted" in deepvideo("gc", *where, "--no-registry").stdout
    absent = deepvideo("ls", "--store", "s3://absent-bucket/p")
    assert absent.returncode == 2 and "there is no such bucket: create it" in absent.stderr
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    wrong = deepvideo("ls", *where)
    assert wrong.returncode == 2 and "the secret key is wrong" in wrong.stderr


def test_the_command_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "artifacts", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and all(name in done.stdout for name in ("ls", "show", "get", "gc"))
