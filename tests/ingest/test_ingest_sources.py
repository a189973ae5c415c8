"""Files from a folder and from a real S3 server."""

from __future__ import annotations

import boto3
import pytest

from components.ingest.errors import IngestError
from components.ingest.settings import IngestSettings
from components.ingest.sources import S3Source, open_source
from components.ingest.step import ingest
from components.shared.dataset import DatasetReader


def test_data_and_model_from_s3_give_what_folders_give(
    bucket, settings_for, context, ask, tmp_path, policy_folder, media, monkeypatch
):
    local = settings_for([ask("small.mp4"), ask("fast.mp4"), ask("text.mp4")], max_quarantine_fraction=0.5)
    client = boto3.session.Session().client("s3")
    files = {f"data/videos/{name}": media / name for name in ("small.mp4", "fast.mp4", "text.mp4")}
    files |= {"data/annotations.jsonl": local.annotations}
    files |= {f"models/tiny/{path.name}": path for path in policy_folder.iterdir()}
    for key, path in files.items():
        client.upload_file(str(path), bucket.name, key)
    remote = IngestSettings.model_validate(
        local.model_dump() | {
            "annotations": f"{bucket.uri}/data/annotations.jsonl", "videos": f"{bucket.uri}/data/videos",
            "model": f"{bucket.uri}/models/tiny",
        }
    )  # fmt: skip
    outputs = ingest(remote, context)
    other = ingest(local, context.model_copy(update={"store": str(tmp_path / "other")}))
    for name in ("dataset", "policy", "state", "buffer"):
        assert outputs.artifacts[name].digest == other.artifacts[name].digest
    dataset = DatasetReader(context.open_store().get(outputs.artifacts["dataset"]))
    assert [item.reason for item in dataset.quarantine()] == ["not_a_video"]
    fetched: list[str] = []
    real = S3Source.fetch
    monkeypatch.setattr(S3Source, "fetch", lambda self, name, folder: fetched.append(name) or real(self, name, folder))
    assert ingest(remote, context) == outputs
    assert "annotations.jsonl" in fetched
    assert not [name for name in fetched if name.endswith(".mp4")]  # found again without a download


def test_a_bucket_that_cannot_be_listed_is_one_clear_error(bucket):
    with pytest.raises(IngestError, match="s3://absent/x/ cannot be listed: .*there is no such bucket: create it"):
        open_source("s3://absent/x").names()


@pytest.mark.parametrize("root", ["/data/videos", "s3://bucket/videos"])
def test_names_stay_below_the_root(root):
    source = open_source(root)
    assert source.relative(f"{root}/sub/a.mp4") == "sub/a.mp4"
    assert source.relative("sub/a.mp4") == "sub/a.mp4"
    for outside in ("/etc/passwd", "../a.mp4", "s3://other/a.mp4" if root.startswith("s3") else "/data/videosX/a.mp4"):
        with pytest.raises(ValueError, match="lies outside the videos'"):
            source.relative(outside)


def test_another_scheme_is_refused():
    with pytest.raises(IngestError, match="scheme 'ftp' is not supported"):
        open_source("ftp://host/videos")
