"""The ingest step as a whole, on real files."""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from components.ingest.errors import IngestError
from components.ingest.step import ingest
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader, frames_digest
from components.shared.sampling.artifacts import read_buffer
from tests.videos import DECODERS

GOOD = ("small.mp4", "fast.mp4", "wide.mkv", "long.avi")


def reader(outputs, context) -> DatasetReader:
    return DatasetReader(context.open_store().get(outputs.artifacts["dataset"]))


def quarantined(outputs, context) -> dict[str, str]:
    return {item.item: item.reason for item in reader(outputs, context).quarantine()}


def test_good_videos_become_frames_of_the_asked_size(settings_for, context, ask):
    outputs = ingest(settings_for([ask(name) for name in GOOD], num_frames=8, frame_size=56), context)
    dataset = reader(outputs, context)
    assert [sample.video for sample in dataset.samples("train")] and len(dataset.samples()) == 4
    for name in GOOD:
        frames, record = dataset.frames(name), dataset.frames_record(name)
        assert frames.shape == (8, 56, 56, 3) and frames.dtype == np.uint8
        assert record.digest == frames_digest(frames) and (record.height, record.width) == (56, 56)
        assert list(record.timestamps) == sorted(set(record.timestamps)) and len(record.timestamps) == 8
        assert record.fps == pytest.approx(7 / (record.timestamps[-1] - record.timestamps[0]))
        assert record.timestamps[-1] <= record.duration
    assert dataset.frames_record("small.mp4").duration == pytest.approx(2.0, abs=0.01)  # 16 frames at 8 a second
    assert dataset.frames_record("long.avi").duration == pytest.approx(20.0, abs=0.1)  # 200 frames at 10 a second
    assert outputs.results["splits"] == {"train": 4} and outputs.results["quarantined"] == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_each_decoder_goes_through_the_step_and_is_named(settings_for, context, ask, decoder):
    outputs = ingest(settings_for([ask(name) for name in GOOD], decoder=decoder), context)
    assert len(reader(outputs, context).samples()) == 4
    library = "av" if decoder == "pyav" else decoder
    assert outputs.results["engines"][library] == metadata.version(library)


def test_the_first_policy_state_and_buffer_are_there(settings_for, context, ask, policy_folder):
    artifacts = ingest(settings_for([ask("small.mp4")]), context).artifacts
    store = context.open_store()
    assert artifacts["policy"].metadata == {"source": str(policy_folder), "revision": "", "model_type": "qwen2_5_vl"}
    assert (store.get(artifacts["policy"]) / "model.safetensors").read_bytes() == (
        policy_folder / "model.safetensors"
    ).read_bytes()
    state = json.loads((store.get(artifacts["state"]) / "progress.json").read_text())
    assert state == {"global_step": 0, "stop_reason": "", "history": []}
    assert artifacts["state"].metadata == {"stop_reason": "", "global_step": 0}
    assert read_buffer(store.get(artifacts["buffer"])) == []


def test_every_bad_file_is_named_with_its_reason(settings_for, context, ask):
    expected = {
        "truncated.mp4": "truncated", "no_index.mp4": "truncated", "zero.mp4": "empty_file", "text.mp4": "not_a_video",
        "audio.mp4": "no_video_stream", "picture.mp4": "not_a_video", "absent.mp4": "missing", "one.mp4": "too_short",
    }  # fmt: skip
    rows = [ask(name) for name in (*GOOD, *expected)]
    outputs = ingest(settings_for(rows, max_quarantine_fraction=0.7), context)
    assert quarantined(outputs, context) == expected
    assert outputs.results["quarantined"] == 8 and outputs.results["samples"] == 4
    assert {item["item"] for item in outputs.results["first_quarantined"]} == set(expected)
    assert reader(outputs, context).report()["quarantined_by_reason"] == {
        "not_a_video": 2, "truncated": 2, "empty_file": 1, "missing": 1, "no_video_stream": 1, "too_short": 1,
    }  # fmt: skip


def test_a_video_that_hangs_is_quarantined_and_the_others_go_on(settings_for, context, ask, tmp_path):
    settings = settings_for(
        [ask("pipe.mp4"), ask("pipe.mp4", question="Another?"), *map(ask, GOOD)],
        decode_timeout=10.0, max_quarantine_fraction=0.5,
    )  # fmt: skip
    os.mkfifo(tmp_path / "data" / "pipe.mp4")  # reading a pipe that nobody writes to never returns
    outputs = ingest(settings, context)
    (item,) = reader(outputs, context).quarantine()
    assert (item.item, item.reason, item.samples) == ("pipe.mp4", "decode_timeout", 2)
    assert outputs.results["samples"] == 4


def test_a_short_video_gives_the_even_number_of_frames_it_has(settings_for, context, ask):
    record = reader(ingest(settings_for([ask("five.mp4")], num_frames=8), context), context).frames_record("five.mp4")
    assert record.timestamps == (0.0, pytest.approx(0.2 * 1), pytest.approx(0.2 * 3), pytest.approx(0.2 * 4))


def test_an_image_is_stored_as_one_frame(settings_for, context, ask):
    rows = [ask("small.mp4", image="picture.png"), ask("fast.mp4", image="text.mp4")]
    outputs = ingest(settings_for(rows, max_quarantine_fraction=0.5), context)
    dataset = reader(outputs, context)
    assert dataset.frames("picture.png").shape == (1, 56, 56, 3)
    assert quarantined(outputs, context) == {"text.mp4": "not_an_image"}


def test_two_ingests_of_the_same_data_give_the_same_artifacts(settings_for, ask, tmp_path):
    rows = [ask(name) for name in (*GOOD, "zero.mp4", "absent.mp4", "text.mp4")]
    digests = []
    for name, workers in (("one", 1), ("two", 3)):
        settings = settings_for(rows, decode_workers=workers, max_quarantine_fraction=0.5)
        outputs = ingest(settings, StepContext(store=str(tmp_path / name), seed=workers))
        digests.append({name: ref.digest for name, ref in outputs.artifacts.items()})
    assert digests[0] == digests[1]


def test_the_same_video_in_train_and_held_out_is_kept_out_of_train(settings_for, context, ask, tmp_path, media):
    settings = settings_for(
        [ask("small.mp4"), ask("small.mp4", question="Why?"), ask("copy.mp4", split="L2"), ask("fast.mp4")],
        max_quarantine_fraction=0.5,
    )
    (tmp_path / "data" / "copy.mp4").write_bytes((media / "small.mp4").read_bytes())
    outputs = ingest(settings, context)
    (item,) = reader(outputs, context).quarantine()
    assert (item.item, item.reason, item.samples) == ("small.mp4", "leak", 2) and "L2 (copy.mp4)" in item.detail
    assert outputs.results["splits"] == {"L2": 1, "train": 1}


def test_duplicates_are_removed_counted_and_named_but_are_no_loss(settings_for, context, ask):
    first = ask("small.mp4", question="Which one?")
    shuffled = {**first, "question": "  which ONE?", "options": ["Blue", "red"], "answer": "B"}
    other_answer = {**first, "answer": "B"}
    outputs = ingest(settings_for([first, shuffled, other_answer], max_quarantine_fraction=0), context)
    assert outputs.results["samples"] == 1 and outputs.results["duplicates"] == 2
    assert outputs.results["quarantined"] == 0
    details = {item.item: item.detail for item in reader(outputs, context).quarantine()}
    assert details == {
        "annotations.jsonl:2": "the same as annotations.jsonl:1",
        "annotations.jsonl:3": "the same as annotations.jsonl:1; its answer differs, the first one's is kept",
    }


def test_an_id_that_comes_twice_is_quarantined(settings_for, context, ask):
    rows = [ask("small.mp4", id="q"), ask("fast.mp4", id="q")]
    outputs = ingest(settings_for(rows, max_quarantine_fraction=0.5), context)
    assert quarantined(outputs, context) == {"annotations.jsonl:2": "repeated_id"}


def test_a_span_after_the_end_of_its_video_is_quarantined(settings_for, context, ask):
    late = ask("small.mp4", task="temporal_grounding", options=[], answer="3 to 4", spans=[[3.0, 4.0]])
    outputs = ingest(settings_for([late, ask("fast.mp4")], max_quarantine_fraction=0.5), context)
    assert quarantined(outputs, context) == {"annotations.jsonl:1": "span_outside_video"}


def test_a_prompt_over_the_limit_is_refused_and_never_shortened(settings_for, context, ask):
    rows = [ask("small.mp4"), ask("fast.mp4", question="long " * 500)]
    outputs = ingest(settings_for(rows, max_prompt_length=600, max_quarantine_fraction=0.5), context)
    assert quarantined(outputs, context) == {"annotations.jsonl:2": "prompt_too_long"}


def test_too_many_losses_stop_the_ingest_with_reasons_and_names(settings_for, context, ask):
    rows = [ask("small.mp4"), ask("zero.mp4"), ask("text.mp4"), ask("fast.mp4", answer="C")]
    with pytest.raises(IngestError) as stopped:
        ingest(settings_for(rows, max_quarantine_fraction=0.25), context)
    message = str(stopped.value)
    assert message.startswith("3 of 4 samples cannot be used, and ingest.max_quarantine_fraction allows 0.25")
    for part in ("1 bad_row: annotations.jsonl:4 (answer: 'C'", "1 empty_file: zero.mp4", "1 not_a_video: text.mp4"):
        assert part in message
    assert not context.open_store().list_objects("ledger")


def test_nothing_to_train_on_stops_the_ingest(settings_for, context, ask):
    with pytest.raises(IngestError, match="nothing is left to train on.*there are \\['L1'\\].*set `split`"):
        ingest(settings_for([ask("small.mp4", split="L1")]), context)


def test_of_many_losses_it_is_said_how_many_are_not_named(settings_for, context, ask):
    rows = [ask("small.mp4"), *(ask("fast.mp4", answer="C", id=f"bad-{number}") for number in range(5))]
    with pytest.raises(IngestError, match=r"5 bad_row: annotations.jsonl:2 .*; annotations.jsonl:4 .*; and 2 more\n"):
        ingest(settings_for(rows), context)


def test_a_missing_videos_folder_is_one_clear_error(settings_for, context, ask, tmp_path):
    with pytest.raises(IngestError, match="nowhere: there is no such folder"):
        ingest(settings_for([ask("small.mp4")], videos=str(tmp_path / "nowhere")), context)


def test_a_frame_size_that_the_model_cannot_take_is_refused(settings_for, context, ask, policy_folder):
    config = json.loads((policy_folder / "config.json").read_text())
    config["vision_config"]["patch_size"] = 16
    (policy_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(IngestError, match="frame_size: 56 is not a multiple of 32"):
        ingest(settings_for([ask("small.mp4")], frame_size=56), context)


def test_a_finished_ingest_is_found_again_and_a_changed_video_is_seen(settings_for, context, ask, tmp_path, media):
    settings = settings_for([ask("small.mp4"), ask("zero.mp4")], max_quarantine_fraction=0.5)
    first = ingest(settings, context)
    assert ingest(settings, context) == first
    mended = tmp_path / "data" / "zero.mp4"
    mended.unlink()
    mended.write_bytes((media / "fast.mp4").read_bytes())
    assert ingest(settings, context).results["samples"] == 2


def test_a_killed_ingest_does_not_decode_again(settings_for, context, ask, tmp_path, monkeypatch):
    settings = settings_for([ask(name) for name in GOOD])
    with monkeypatch.context() as patch:  # the run ends after everything was decoded
        patch.setattr("components.ingest.step._put_dataset", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest(settings, context)
    asked = []
    from components.ingest.decode_pool import DecodeWorker

    ask_worker = DecodeWorker.ask
    monkeypatch.setattr(
        DecodeWorker, "ask", lambda self, timeout, **request: (
            asked.append(request["operation"]), ask_worker(self, timeout, **request))[1],
    )  # fmt: skip
    resumed = ingest(settings, context)
    assert asked == ["digest"] * 4
    assert (
        resumed.artifacts["dataset"].digest
        == ingest(settings, StepContext(store=str(tmp_path / "fresh"))).artifacts["dataset"].digest
    )
    assert not context.open_store().list_objects("work")


def test_nothing_is_left_behind(settings_for, context, ask):
    ingest(settings_for([ask("small.mp4")]), context)
    root = Path(context.store)
    assert list((root / ".staging").iterdir()) == []
