"""The artifact store on a real S3 server: checked both ways, resumed after a kill, patient while the server is away."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import boto3
import numpy as np
import pytest

from components.shared.schemas import ArtifactRef
from components.shared.store import MANIFEST, StoreError, StoreSettings, open_store
from components.shared.store.s3 import S3Store
from pipelines.containers.radosgw import KMS_KEY, Bucket

MIB = 1 << 20
PART = 5  # MiB, the smallest that S3 takes


def store_in(bucket: Bucket, cache: Path | None = None, **settings: object) -> S3Store:
    """The store of a bucket, with small parts; `cache` stands for another machine's."""
    if cache:
        os.environ["DEEPVIDEO_CACHE"] = str(cache)  # the fixture `bucket` puts it back
    made = open_store(f"{bucket.uri}/some/prefix", StoreSettings(**{"part_size": PART, **settings}))
    assert isinstance(made, S3Store)
    return made


def folder_with(root: Path, **files: bytes) -> Path:
    root.mkdir(parents=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def keys(bucket: Bucket) -> dict[str, int]:
    listed = boto3.session.Session().client("s3").list_objects_v2(Bucket=bucket.name)
    return {item["Key"]: item["Size"] for item in listed.get("Contents", ())}


def test_what_one_machine_put_another_gets_in_parts_and_in_small_files(bucket: Bucket, tmp_path: Path) -> None:
    files = {"large": noise(12 * MIB + 5), "small": b"1", "empty": b"", "whole": noise(PART * MIB, 1)}
    ref = store_in(bucket).put(folder_with(tmp_path / "a", **files), "policy")
    assert not (tmp_path / "a").exists()  # moved into the cache
    assert {name.rpartition("/")[2] for name in keys(bucket)} == {*files, MANIFEST}
    elsewhere = store_in(bucket, tmp_path / "elsewhere")
    got = elsewhere.get(ref)
    assert {path.name: path.read_bytes() for path in got.iterdir() if path.name != MANIFEST} == files
    assert elsewhere.versions() == [f"policy/{ref.digest}"]
    assert not list((tmp_path / "elsewhere").rglob("*.part"))


def test_a_version_that_was_put_is_got_without_a_download(bucket: Bucket, tmp_path: Path) -> None:
    store = store_in(bucket)
    ref = store.put(folder_with(tmp_path / "a", x=b"1"), "policy")
    requests: list[str] = []
    store.client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request.url))
    assert (store.get(ref) / "x").read_bytes() == b"1"
    assert [url.rpartition("/")[2] for url in requests] == [MANIFEST]


def test_objects_are_written_listed_and_deleted_by_prefix(bucket: Bucket) -> None:
    store = store_in(bucket)
    for name in ("work/k/1", "work/k/2", "work/other/1"):
        store.write_object(name, name.encode())
    assert store.read_object("work/k/1") == b"work/k/1" and store.read_object("work/k/3") is None
    assert store.list_objects("work/k") == ["work/k/1", "work/k/2"]
    store.delete_objects("work/k")
    assert store.list_objects("work") == ["work/other/1"]
    store.delete_objects("work/other/1")
    assert store.list_objects("work") == []


def test_a_version_without_its_manifest_or_with_a_damaged_file_cannot_be_read(bucket: Bucket, tmp_path: Path) -> None:
    store = store_in(bucket)
    ref = store.put(folder_with(tmp_path / "a", x=b"good", y=noise(11 * MIB)), "state")
    elsewhere = store_in(bucket, tmp_path / "elsewhere")
    elsewhere.write_object(f"state/{ref.digest}/x", b"evil")
    with pytest.raises(StoreError, match=r"/x does not match its SHA-256: it is damaged in the store; delete"):
        elsewhere.get(ref)
    elsewhere.delete_objects(f"state/{ref.digest}/{MANIFEST}")
    with pytest.raises(StoreError, match="not in the store"):
        elsewhere.get(ref)


def test_a_byte_that_flips_on_its_way_up_is_refused_and_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    store = store_in(bucket)
    flipped: list[str] = []

    def flip(request, **_):
        if not flipped and request.url.endswith("/x"):
            flipped.append(request.url)
            request.body = b"0" + request.body.read()[1:]

    store.client.meta.events.register("before-send.s3.PutObject", flip)
    ref = store.put(folder_with(tmp_path / "a", x=b"123456"), "state")
    assert flipped
    assert (store_in(bucket, tmp_path / "elsewhere").get(ref) / "x").read_bytes() == b"123456"


# Moves one version and prints the bytes of the parts that it sent or asked for; kills itself before part `kill_at`.
MOVE = textwrap.dedent("""
    import os, signal, sys, threading
    from pathlib import Path
    from components.shared.schemas import ArtifactRef
    from components.shared.store import StoreSettings, open_store

    uri, direction, given, kill_at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    store = open_store(uri, StoreSettings(part_size=5, concurrency=2))
    lock, moved = threading.Lock(), []

    def count(request, **_):
        span = request.headers.get("Range")
        if span:
            first, last = (span.decode() if isinstance(span, bytes) else span).removeprefix("bytes=").split("-")
            size = int(last) - int(first) + 1
        elif "partNumber=" in request.url:
            size = request.body.seek(0, os.SEEK_END)
            request.body.seek(0)
        else:
            return
        with lock:
            if len(moved) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            moved.append(size)

    store.client.meta.events.register("before-send.s3", count)
    if direction == "up":
        print(store.put(Path(given), "policy").model_dump_json())
    else:
        store.get(ArtifactRef.model_validate_json(given))
    print(sum(moved))
""")


def move(bucket: Bucket, direction: str, given: str, cache: Path, kill_at: int = -1) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", MOVE, f"{bucket.uri}/p", direction, given, str(kill_at)],
        env={**os.environ, "DEEPVIDEO_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )


def test_an_upload_and_a_download_that_were_killed_go_on_where_they_were(bucket: Bucket, tmp_path: Path) -> None:
    size = 52 * MIB  # 11 parts
    given = str(folder_with(tmp_path / "a", large=noise(size), small=b"1"))
    killed = move(bucket, "up", given, tmp_path / "one", kill_at=7)
    assert killed.returncode == -signal.SIGKILL
    client = boto3.session.Session().client("s3")
    (begun,) = client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    parts = client.list_parts(Bucket=bucket.name, Key=begun["Key"], UploadId=begun["UploadId"])["Parts"]
    there = sum(part["Size"] for part in parts)
    assert 5 * PART * MIB <= there < size
    assert open_store(f"{bucket.uri}/p").versions() == []  # nothing half-written is readable

    again = move(bucket, "up", given, tmp_path / "one")
    ref, sent = again.stdout.splitlines()
    # the part that was on its way beside the one that died may have arrived since
    assert size - there - PART * MIB <= int(sent) <= size - there
    assert not client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")

    killed = move(bucket, "down", ref, tmp_path / "two", kill_at=7)
    assert killed.returncode == -signal.SIGKILL
    (journal,) = (tmp_path / "two").rglob("large.journal")
    done = journal.read_text().split()
    assert 5 <= len(done) <= 7 and not (tmp_path / "two" / "policy").exists()
    again = move(bucket, "down", ref, tmp_path / "two")
    got = sum(min(PART * MIB, size - int(line.split("/")[0]) * PART * MIB) for line in done)
    assert int(again.stdout) == size - got
    (large,) = (tmp_path / "two" / "policy").rglob("large")
    assert large.read_bytes() == noise(size)


def test_two_that_send_the_same_upload_at_once_both_end_with_the_version(bucket: Bucket, tmp_path: Path) -> None:
    content = noise(3 * PART * MIB + 7)
    late, other = store_in(bucket, concurrency=1), store_in(bucket, tmp_path / "elsewhere")
    send = late.client.upload_part
    sent = []

    def after_the_other_is_done(**part: object) -> object:
        if not sent:  # the upload has begun and nothing is there of it: the other takes it up and completes it
            sent.append(other.put(folder_with(tmp_path / "b", large=content), "policy"))
        return send(**part)

    late.client.upload_part = after_the_other_is_done
    ref = late.put(folder_with(tmp_path / "a", large=content), "policy")
    assert sent[0] == ref and late.versions() == [f"policy/{ref.digest}"]
    assert not late.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")
    got = store_in(bucket, tmp_path / "third").get(ref)
    assert (got / "large").read_bytes() == content


def test_parts_of_other_content_are_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    """An unfinished upload under the same key whose parts differ, as after a damaged disk."""
    given, data = tmp_path / "a", noise(12 * MIB)
    store, client = store_in(bucket), boto3.session.Session().client("s3")
    folder_with(given, large=data)
    ref = store.put(given, "policy")
    store.delete_objects(f"policy/{ref.digest}")
    key = f"some/prefix/policy/{ref.digest}/large"
    begun = client.create_multipart_upload(
        Bucket=bucket.name, Key=key, Metadata={"sha256": hashlib.sha256(data).hexdigest()}
    )
    client.upload_part(
        Bucket=bucket.name, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=noise(PART * MIB, seed=9)
    )
    assert store_in(bucket).put(folder_with(tmp_path / "b", large=data), "policy").digest == ref.digest
    assert (store_in(bucket, tmp_path / "elsewhere").get(ref) / "large").read_bytes() == data


def test_a_damaged_leftover_of_a_download_is_thrown_away(bucket: Bucket, tmp_path: Path) -> None:
    size = 22 * MIB
    ref = store_in(bucket).put(folder_with(tmp_path / "a", large=noise(size)), "policy")
    stored = ArtifactRef.model_validate(ref.model_dump())
    staged = tmp_path / "elsewhere" / "downloads" / f"policy-{ref.digest}"
    folder_with(staged, **{"large.part": bytes(size), "large.journal": f"0/{PART * MIB}\n".encode()})
    assert (store_in(bucket, tmp_path / "elsewhere").get(stored) / "large").read_bytes() == noise(size)


def test_a_server_that_is_gone_for_half_a_minute_is_waited_for(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Versions and objects go up and down while the server is killed; what is readable meanwhile and after is whole."""
    store, refs, done = store_in(bucket, concurrency=4), [], threading.Event()
    gateway = bucket.gateway

    def work() -> None:
        for index in range(4):
            files = {"large": noise(31 * MIB, index), "small": noise(100, index)}
            refs.append(store.put(folder_with(tmp_path / f"v{index}", **files), "policy"))
            store.write_object(f"work/k/{index}", b"x" * 1000)
            store_in(bucket, tmp_path / f"cache{index}").get(refs[-1])
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    while len(refs) < 2:
        assert worker.is_alive()
        time.sleep(0.05)
    gateway.kill_gateway()
    try:
        time.sleep(30)
        assert worker.is_alive()
    finally:
        gateway.start_gateway()
    worker.join(timeout=600)
    assert done.is_set() and len(refs) == 4
    assert any("S3 does not answer" in record.message for record in caplog.records)
    fresh = store_in(bucket, tmp_path / "fresh")
    assert set(fresh.versions()) == {f"policy/{ref.digest}" for ref in refs}
    for index, ref in enumerate(refs):
        fresh.export(f"policy/{ref.digest}", tmp_path / f"out{index}")
        assert (tmp_path / f"out{index}" / "large").read_bytes() == noise(31 * MIB, index)
    assert len(fresh.list_objects("work/k")) == 4


def test_a_server_that_does_not_come_back_is_one_clear_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StoreError, match="cannot be reached: check AWS_ENDPOINT_URL"):
            store_in(bucket, patience=1).read_object("x")


@pytest.mark.parametrize(
    ("variables", "uri", "remedy"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "", "SignatureDoesNotMatch: the secret key is wrong: check AWS_ACCESS"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "", "InvalidAccessKeyId: the access key is unknown"),
        ({}, "s3://absent-bucket/x", "s3://absent-bucket/x.*there is no such bucket: create it"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "", "cannot be reached: check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9"}, "", "correct the AWS variables"),
        ({"AWS_PROFILE": "absent"}, "", "absent.*correct the AWS variables"),
        ({"AWS_ACCESS_KEY_ID": ""}, "", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_what_is_wrong_from_the_start_is_told_within_seconds_with_its_remedy(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], uri: str, remedy: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    began = time.monotonic()
    with pytest.raises(StoreError, match=remedy):
        open_store(uri or f"{bucket.uri}/x").check()
    assert time.monotonic() - began < 300  # the store's own patience is ten minutes


def test_a_check_switches_versioning_on_so_that_what_is_deleted_can_be_brought_back(bucket: Bucket) -> None:
    client, store = boto3.session.Session().client("s3"), store_in(bucket)
    store.check()
    assert client.get_bucket_versioning(Bucket=bucket.name)["Status"] == "Enabled"
    store.write_object("x", b"kept")
    store.delete_objects("x")
    assert store.read_object("x") is None
    revisions = client.list_object_versions(Bucket=bucket.name, Prefix="some/prefix/x")["Versions"]
    assert len(revisions) == 1


def test_leftovers_are_replaced_revisions_and_broken_off_uploads_and_can_be_dropped(bucket: Bucket) -> None:
    client, store = boto3.session.Session().client("s3"), store_in(bucket)
    store.check()
    for data in (b"one", b"three", b"the newest"):
        store.write_object("x", data)
    store.write_object("gone", b"1234")
    store.delete_objects("gone")
    client.create_multipart_upload(Bucket=bucket.name, Key="some/prefix/policy/d/large")
    client.put_object(Bucket=bucket.name, Key="other/prefix/x", Body=b"1")
    client.put_object(Bucket=bucket.name, Key="other/prefix/x", Body=b"2")
    assert store.leftovers(before=time.time() - 3600) == []
    found = store.leftovers(before=float("inf"))
    sizes = sorted(entry.size for entry in found if not entry.name.startswith("probes/"))
    assert sizes == [0, 0, 3, 4, 5]  # the upload, the mark of a deletion, two revisions of x, one of what is gone
    store.drop_leftovers(found)
    assert store.leftovers(before=float("inf")) == [] and store.read_object("x") == b"the newest"
    left = client.list_object_versions(Bucket=bucket.name)
    assert sorted(item["Key"] for item in left["Versions"]) == ["other/prefix/x"] * 2 + ["some/prefix/x"]
    assert "DeleteMarkers" not in left and "Uploads" not in client.list_multipart_uploads(Bucket=bucket.name)


def test_encryption_is_asked_for_as_the_settings_say(bucket: Bucket, tmp_path: Path) -> None:
    store = store_in(bucket, sse="aws:kms", sse_kms_key_id=KMS_KEY)
    ref = store.put(folder_with(tmp_path / "a", large=noise(11 * MIB), small=b"1"), "policy")
    client = boto3.session.Session().client("s3")
    for key in keys(bucket):
        head = client.head_object(Bucket=bucket.name, Key=key)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KMS_KEY)
    assert (store_in(bucket, tmp_path / "elsewhere").get(ref) / "large").read_bytes() == noise(11 * MIB)


def test_a_key_that_the_server_does_not_have_is_refused_with_the_setting_named(bucket: Bucket) -> None:
    with pytest.raises(StoreError, match="does the server have the encryption and the key of store.sse = aws:kms"):
        store_in(bucket, sse="aws:kms", sse_kms_key_id="absent").check()


def test_a_server_with_a_certificate_of_its_own_needs_its_ca_and_takes_everything_then(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.gateway.tls_url)
    with pytest.raises(StoreError, match="not trusted: set AWS_CA_BUNDLE"):
        store_in(bucket).check()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bucket.gateway.certificate))
    store = store_in(bucket)
    store.check()
    ref = store.put(folder_with(tmp_path / "a", large=noise(11 * MIB), small=b"1"), "policy")
    assert (store_in(bucket, tmp_path / "elsewhere").get(ref) / "large").read_bytes() == noise(11 * MIB)


def test_a_profile_in_a_file_is_enough(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[profile own]\nendpoint_url = {bucket.gateway.url}\nregion = us-east-1\n"
        f"aws_access_key_id = {bucket.environment['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {bucket.environment['AWS_SECRET_ACCESS_KEY']}\n"
    )
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "own")
    store = store_in(bucket)
    store.check()
    assert store.client.meta.config.s3["addressing_style"] == "path"
