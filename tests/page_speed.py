"""Milliseconds from a keystroke to the changed mask, in a real browser, for a video of 120 frames:
those of the named video forwards and backwards. Any score counts as a match, so that there is a
mask for every letter.

    PYTHONPATH=.:tests python tests/page_speed.py BUNDLE VIDEO
"""

from __future__ import annotations

import logging
import shutil
import statistics
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

from page_server import served
from playwright.sync_api import sync_playwright

import aamn
from aamn.visualization.video_writer import written_video
from aamn.web.videos import Example
from proposals.decoding import Video
from proposals.frames import open_frames

FRAMES = 120
SENTENCES = ("the red dog jumping on the left", "a man in blue is walking", "small white cat")
LISTEN = """() => {
  window.found = [];
  document.addEventListener('aamn:answered', ({ detail }) => window.found.push(detail));
}"""


ANY_SCORE = "slider => { slider.value = slider.min; slider.dispatchEvent(new Event('input')); }"


def lengthened(source: Path, out: Path) -> Path:
    """A video of FRAMES frames of another one, forwards and backwards."""
    with open_frames(source) as frames:
        pictures = list(frames.iterate())
        there_and_back = cycle([*pictures, *pictures[-2:0:-1]])
        with written_video(out, frames.fps, frames.size) as video:
            for picture in islice(there_and_back, FRAMES):
                video.add(picture)
    return out


def main(bundle: Path, source: Path) -> None:
    """Prints the medians and the slowest tenth."""
    segmenter = aamn.load(bundle)
    logging.getLogger("aamn").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        clip = lengthened(source, Path(folder) / "clip.mp4")
        brought = Path(folder) / "brought"
        brought.mkdir()
        with served(segmenter, bundle, brought, examples=(Example(Video.at(clip)),)) as address:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            tab = browser.new_page(viewport={"width": 1280, "height": 860})
            tab.goto(address)
            tab.click(".example")
            tab.wait_for_selector("#about:not([hidden])", timeout=600_000)
            tab.locator("#threshold").evaluate(ANY_SCORE)
            tab.evaluate(LISTEN)
            for text in SENTENCES:
                tab.fill(".line input", "")
                tab.locator(".line input").press_sequentially(text, delay=150)
                tab.wait_for_function("() => document.documentElement.dataset.busy === '0'")
            tab.wait_for_timeout(500)  # the last one is on the screen
            report(tab.evaluate("window.found.filter(({ masks }) => masks > 0)"))
            browser.close()


def report(found: list[dict[str, float]]) -> None:
    """A line for the whole way, and one for each of its parts."""
    for one in found:
        one["drawing"] = one["whole"] - one["way"]
    named = {
        "whole": "keystroke to changed mask",
        "way": "the last request, there and back",
        "server": "of it the answer",
        "drawing": "drawing, until it is on the screen, and waiting for the answer before",
    }
    for name, what in named.items():
        values = sorted(one[name] for one in found)
        tenth = values[int(0.9 * len(values))]
        median = statistics.median(values)
        print(f"{what}: median {median:.1f} ms, 9 of 10 below {tenth:.1f} ms, {len(values)} keys")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
