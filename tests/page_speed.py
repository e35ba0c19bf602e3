"""Milliseconds from a keystroke to the changed mask, in a real browser: of a video of 120 frames,
with the demo's bundle or the named one.

    PYTHONPATH=tests python tests/page_speed.py [BUNDLE]
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from page_server import served, write_clip
from playwright.sync_api import sync_playwright

import aamn
from aamn.web.videos import Example
from proposals.decoding import Video

SIZE, FRAMES = (240, 320), 120
SENTENCES = ("the red dog jumping on the left", "a man in blue is walking", "small white cat")
LISTEN = """() => {
  window.found = [];
  document.addEventListener('aamn:answered', ({ detail }) => window.found.push(detail));
}"""


def main(bundle: Path) -> None:
    """Prints the medians and the slowest tenth."""
    segmenter = aamn.load(bundle)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        clip = write_clip(Path(folder) / "clip.mp4", FRAMES, size=SIZE)
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
            tab.evaluate(LISTEN)
            for text in SENTENCES:
                tab.fill(".line input", "")
                tab.locator(".line input").press_sequentially(text, delay=150)
                tab.wait_for_function("() => document.documentElement.dataset.busy === '0'")
            report(tab.evaluate("window.found.filter(({ server }) => server > 0)"))
            browser.close()


def report(found: list[dict[str, float]]) -> None:
    """One line for the whole way, one for the server's share."""
    for name, what in (("whole", "keystroke to changed mask"), ("server", "of it on the server")):
        values = sorted(one[name] for one in found)
        tenth = values[int(0.9 * len(values))]
        median = statistics.median(values)
        print(f"{what}: median {median:.1f} ms, 9 of 10 below {tenth:.1f} ms, {len(values)} keys")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/bundle"))
