"""The page in a real browser. The script is added by the test: the page itself has none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.report.step import write_report

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
MEASURE = """
<script>
window.addEventListener("load", () => {
  const sizes = (selector) => [...document.querySelectorAll(selector)].map((element) => {
    const box = element.getBoundingClientRect();
    return [element.naturalWidth ?? box.width, box.width, box.height];
  });
  const found = {
    images: sizes("img"), drawings: sizes("figure svg"),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 60))
      .filter((name) => !name.startsWith("data:")),
    verdict: document.getElementById("verdict").innerText,
    sections: [...document.querySelectorAll("section h2")].map((heading) => heading.innerText),
    strokes: [...document.querySelectorAll("#figure-training path")].map((path) => getComputedStyle(path).stroke),
  };
  const note = document.createElement("pre");
  note.id = "measured";
  note.textContent = JSON.stringify(found);
  document.body.append(note);
});
</script>
"""


def browse(page: Path, profile: Path, *arguments: str) -> str:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "no Chromium: apt-get install chromium"
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def page(arguments):
    return write_report(**arguments)[1] / "report.html"


def test_verdict_figures_and_frames_are_there_and_nothing_is_fetched_or_cut_off(page, tmp_path):
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    dom = browse(measured, tmp_path / "profile", "--window-size=1100,900", "--dump-dom")
    found = json.loads(re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL).group(1).replace("&gt;", ">"))
    assert found["verdict"].startswith("L1 accuracy rose from") and "Promoted: yes" in found["verdict"]
    assert len(found["images"]) == 6 and all(width == 8 * 56 + 7 * 3 for width, _, _ in found["images"])
    assert all(shown > 700 and height > 60 for _, shown, height in found["images"])
    assert len(found["drawings"]) == 6 and all(width > 700 and height > 80 for _, width, height in found["drawings"])
    assert found["requests"] == [] and found["overflow"] == 0
    assert "rgb(36, 98, 168)" in found["strokes"]  # a CSS variable that is not defined would draw nothing
    assert found["sections"] == [
        "Scores", "Rounds", "Difficulty and augmentation", "Training", "Rollouts",
        "Answers that turned", "Promotion", "Data", "Time", "Settings and versions",
    ]  # fmt: skip


@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_the_page_is_drawn_light_or_dark_as_the_reader_prefers(page, tmp_path, scheme, dark):
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={scheme}"
    browse(page, tmp_path / "profile", setting, "--window-size=1100,1600", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert (pixels[2, 2] < 60) is np.bool_(dark)
    assert pixels.std() > 10  # not blank
