from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from components.report.rollouts import examples, strip
from components.report.step import write_report
from components.shared.context import StepContext
from components.shared.dataset import MASK_COLOUR, DatasetReader, add_noise, frames_digest, mask_frames
from components.shared.schemas import Augmentation
from components.shared.store import open_store


@pytest.fixture(scope="module")
def folder(arguments):
    return write_report(**arguments)[1]


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def reader(arguments, context):
    return DatasetReader(context.open_store().get(arguments["dataset"]))


def shown(arguments, reader):
    rollouts = {1: next(report for report in arguments["reports"] if report.step == "rollout").results["examples"]}
    return examples(rollouts, reader)


def test_the_page_needs_nothing_but_itself(page):
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http:" not in without_namespaces and "https:" not in without_namespaces
    assert not re.findall(r"<(script|link(?! rel=\"icon\" href=\"data:)|iframe|object)\b", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'<img src="([^"]*)"', page))
    assert "@import" not in page and "url(" not in re.sub(r"url\(#", "", page)


def test_text_of_the_model_and_of_the_data_is_shown_and_not_interpreted(page):
    assert "disc disc disc &lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script>" not in page
    assert "disc move? &lt;&amp;&gt;" in page and "&lt;think&gt;" in page


def test_every_element_is_closed_and_no_id_stands_twice(page):
    void = {"meta", "link", "br", "img"}

    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.ids = [], []

        def handle_starttag(self, tag, attrs):
            self.ids += [value for name, value in attrs if name == "id" and not value.startswith(("m", "p", "C"))]
            if tag not in void:
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == [] and len(set(checker.ids)) == len(checker.ids)


def test_quarantine_flips_hints_engines_and_skipped_rounds_are_on_the_page(page):
    for text in (
        "moov atom not found",
        "answer is not an option",
        "Turned right: the first 12 of",
        "Turned wrong",
        "The blue disc is first at the left edge,",
        "standard deviation of 24.0 grey levels",
        "skipped: round 2: KL 0.21 is above stop_kl 0.2",
        "2 (no response was right)",
        "0.32.0",
        "learning_rate",
        "95 % percentile bootstrap",
    ):
        assert text in page, text


def test_the_same_inputs_give_the_same_bytes(arguments, page, folder, tmp_path):
    # another store, so that nothing is found finished
    first, second = arguments["context"].open_store(), open_store(str(tmp_path / "other"))
    for name in ("dataset", "scores_before", "scores_after"):
        for path in [item for item in first.list_objects(f"{arguments[name].kind}/{arguments[name].digest}")]:
            second.write_object(path, first.read_object(path))
    context = StepContext(**{**arguments["context"].model_dump(), "store": str(tmp_path / "other")})
    outputs, other = write_report(**{**arguments, "context": context})
    assert (other / "report.html").read_text() == page
    assert {path.name for path in (other / "plots").iterdir()} == {path.name for path in (folder / "plots").iterdir()}
    assert outputs.artifacts["report"].digest == folder.name  # the plots' bytes too


def test_frames_are_shown_with_the_noise_that_the_policy_saw(arguments, reader):
    noisy = next(item for item in shown(arguments, reader) if item["augmentation"].kind == "noise")
    clean = reader.frames(reader.sample(noisy["sample_id"]).video)
    expected = add_noise(clean, noisy["augmentation"].level, noisy["augmentation"].noise_seed)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(noisy["strip"]))))
    for index in range(8):  # 8 frames of 56 pixels with gaps of 3
        np.testing.assert_array_equal(pixels[:, index * 59 : index * 59 + 56, :3], expected[index])


def test_noise_that_cannot_be_made_again_is_an_error(arguments, reader):
    rollouts = next(report for report in arguments["reports"] if report.step == "rollout").results["examples"]
    noisy = next(item for item in rollouts if item["augmentation"]["kind"] == "noise")
    record = {name: value for name, value in noisy["augmentation"].items() if name != "frames_digest"}
    with pytest.raises(ValueError, match="frames_digest is missing"):
        examples({1: [{**noisy, "augmentation": record}]}, reader)


def with_masks(arguments) -> dict:
    """The arguments of a run that masked two frames of each easy sample instead of adding noise."""
    dataset = DatasetReader(arguments["context"].open_store().get(arguments["dataset"]))
    reports = []
    for report in arguments["reports"]:
        results = dict(report.results)
        if report.step == "augmentation" and "augmented/noise" in results:
            results |= {"augmented/noise": 0, "augmented/mask": 10}
        if "examples" in results:
            results["examples"] = [
                {**item, "augmentation": masked_record(dataset, item)}
                if item["augmentation"]["kind"] == "noise"
                else item
                for item in results["examples"]
            ]
        reports.append(report.model_copy(update={"results": results}))
    settings = {**arguments["settings"], "augmentation": {"frame_augmentation": "mask"}}
    return {**arguments, "reports": reports, "settings": settings}


def masked_record(dataset: DatasetReader, item: dict) -> dict:
    frames = mask_frames(dataset.frames(dataset.sample(item["sample_id"]).video), (2, 3))
    digest = frames_digest(frames)
    return Augmentation(kind="mask", delta=-0.38, level=0.3, masked_frames=(2, 3), frames_digest=digest).model_dump()


def test_masked_frames_are_shown_and_named(arguments, reader):
    changed = with_masks(arguments)
    item = next(item for item in shown(changed, reader) if item["augmentation"].kind == "mask")
    clean = reader.frames(reader.sample(item["sample_id"]).video)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["strip"]))))
    for index in range(8):
        picture = pixels[:, index * 59 : index * 59 + 56, :3]
        assert (picture == MASK_COLOUR).all() if index in (2, 3) else np.array_equal(picture, clean[index])
    page = (write_report(**changed)[1] / "report.html").read_text()
    assert "2 of 8 frames masked, in whole temporal patches of two; the level is 30.0 %" in page
    assert 'alt="8 of 8 frames, some masked"' in page and '<th class="n">Mask</th>' in page
    assert re.search(r'<td class="n">1</td><td class="n">32</td><td class="n">8</td><td class="n">10</td>', page)
    assert ", with noise" not in page and "grey levels" not in page and '<th class="n">Noise</th>' not in page


def test_a_strip_shows_at_most_eight_frames_evenly_spaced_and_none_is_higher_than_96_pixels():
    frames = np.repeat(np.arange(15, dtype=np.uint8)[:, None, None, None], 252, 1).repeat(252, 2).repeat(3, 3)
    pixels = strip(frames)
    assert pixels.shape == (96, 8 * 96 + 7 * 3, 4)
    assert [int(pixels[40, 40 + 99 * index, 0]) for index in range(8)] == [0, 2, 4, 6, 8, 10, 12, 14]


def test_markdown_has_the_verdict_and_a_row_a_level_and_round(folder):
    text = (folder / "report.md").read_text()
    assert "L1 accuracy rose from" in text and text.count("(accuracy)") == 4
    assert "| 3 | skipped: round 2: KL 0.21" in text and "`video_017.mp4`: cannot be decoded" in text
