"""The page in a real browser, as a visitor uses it. What it shows is compared with the library."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from page_server import served, write_clip

from aamn.web.limits import Limits
from aamn.web.videos import Example
from proposals.decoding import Video

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
DEMO = ROOT / "runs/demo"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
ALPHA = """() => {
  const canvas = document.getElementById('overlay');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const alpha = Array.from(data.filter((_, n) => n % 4 === 3));
  return { size: [canvas.height, canvas.width], alpha };
}"""


@pytest.fixture(scope="module")
def browser():
    if not os.environ.get("AAMN_BROWSER"):
        pytest.skip("a real browser takes a while: make web-test")
    api = pytest.importorskip("playwright.sync_api", reason="make web-test installs playwright")
    if not CHROMIUM:
        pytest.skip("no chromium here; make web-test installs it")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visitor(browser, page):
    with visit(browser, page[0]) as tab:
        yield tab


class visit:
    """A visitor of their own, who sees no error."""

    def __init__(self, browser, address, **options):
        size = options.pop("viewport", {"width": 1280, "height": 860})
        self.context = browser.new_context(viewport=size, accept_downloads=True, **options)
        self.address, self.errors = address, []

    def __enter__(self):
        tab = self.context.new_page()
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.goto(self.address)
        settled(tab)
        tab.wait_for_selector("#start:not([hidden])")
        return tab

    def __exit__(self, *_):
        self.context.close()
        assert not self.errors


def bring(tab, path, name=None):
    tab.set_input_files("#file", [{"name": name or Path(path).name, "mimeType": "video/mp4",
                                   "buffer": Path(path).read_bytes()}])  # fmt: skip
    tab.wait_for_selector("#about:not([hidden]), #failed:not([hidden])", timeout=120_000)


def type_sentence(tab, text, place=0):
    """Types it letter by letter and waits until all of it is answered and drawn."""
    tab.locator(".line input").nth(place).fill("")
    tab.locator(".line input").nth(place).press_sequentially(text)
    settled(tab)


def settled(tab):
    """Waits until no answer, clip or picture is on its way."""
    tab.wait_for_function("() => document.documentElement.dataset.busy === '0'", timeout=60_000)


def shown_mask(tab, size):
    """Which of the video's pixels (H0, W0) are neither dimmed nor under a line."""
    settled(tab)
    found = tab.evaluate(ALPHA)
    alpha = np.array(found["alpha"]).reshape(found["size"])
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, alpha.shape, strict=True)
    )
    return alpha[rows][:, columns] < 60


def set_threshold(tab, end):
    """Moves the slider to its "min" or "max"."""
    move = "slider => {{ slider.value = slider.{}; slider.dispatchEvent(new Event('input')); }}"
    tab.locator("#threshold").evaluate(move.format(end))


def agreement(one, other):
    return (one & other).sum() / max(1, (one | other).sum())


@pytest.fixture(scope="module")
def answers(segmenter, clip):
    with segmenter.index(clip) as index:
        yield lambda text: index.query(text, absent_threshold=None)[0]


def test_bring_a_video_type_and_see_the_library_s_mask(visitor, clip, answers):
    bring(visitor, clip, "My clip.mp4")
    assert "My clip.mp4 · 23 frames, 50×40" in visitor.inner_text("#name")
    for text in ("w3 w4", "w7"):
        type_sentence(visitor, text)
        wanted = answers(text).masks(0)
        assert agreement(shown_mask(visitor, (40, 50)), wanted) > 0.8
    assert visitor.inner_text(".sentence .score") == f"{100 * answers('w7').probability:.0f} %"
    words = visitor.locator(".words span").all_inner_texts()
    assert words == ["w7"] and "ms" in visitor.inner_text("#ms")


def test_scrub_by_slider_keys_and_timeline(visitor, clip, answers):
    bring(visitor, clip)
    type_sentence(visitor, "w3 w4")
    visitor.locator("#scrub").fill("15")
    assert visitor.inner_text("#clock") == "16 / 23"
    assert agreement(shown_mask(visitor, (40, 50)), answers("w3 w4").masks(15)) > 0.8
    visitor.locator("#overlay").focus()
    for key, frame in (("ArrowRight", 17), ("Shift+ArrowLeft", 7), ("End", 23), ("Home", 1)):
        visitor.keyboard.press(key)
        assert visitor.inner_text("#clock") == f"{frame} / 23"
    box = visitor.locator("#timeline").bounding_box()
    visitor.mouse.click(box["x"] + box["width"] * 10.5 / 23, box["y"] + 10)
    assert visitor.inner_text("#clock") == "11 / 23"
    assert agreement(shown_mask(visitor, (40, 50)), answers("w3 w4").masks(10)) > 0.8
    visitor.keyboard.press("Escape")
    visitor.locator("#overlay").focus()
    visitor.keyboard.press("Space")
    visitor.wait_for_function(
        "() => !document.getElementById('clock').textContent.startsWith('11 ')"
    )
    visitor.keyboard.press("Space")
    assert visitor.get_attribute("#play", "aria-label") == "Play"
    visitor.keyboard.press("/")
    assert visitor.evaluate("document.activeElement.getAttribute('aria-label')") == "Sentence 1"


def test_the_threshold_refuses_and_admits(visitor, clip, answers):
    bring(visitor, clip)
    type_sentence(visitor, "w3 w4")
    assert shown_mask(visitor, (40, 50)).mean() < 1
    for end, absent in (("max", True), ("min", False)):
        set_threshold(visitor, end)
        said = visitor.inner_text(".sentence .score")
        assert ("no match" in said) == absent == bool(visitor.locator(".presence.absent").count())
    assert "any score" in visitor.inner_text("#threshold-value")
    type_sentence(visitor, "zebra")
    assert visitor.inner_text(".sentence .score") == "no match"
    assert visitor.locator(".words .unknown").count() == 1


def test_several_sentences_candidates_and_why(visitor, clip, answers):
    bring(visitor, clip)
    type_sentence(visitor, "w3 w4")
    visitor.keyboard.press("Enter")
    type_sentence(visitor, "w7", 1)
    assert visitor.locator(".presence").count() == 2
    visitor.click("#why summary")
    visitor.wait_for_selector("#candidates tr")
    rows = visitor.locator("#candidates tr")
    track = answers("w7")
    assert rows.count() == int(np.isfinite(track.total[0]).sum())
    assert rows.first.locator("td").last.inner_text() == f"{track.total[0].max():.2f}"
    visitor.check("#show-all")
    settled(visitor)
    x1, y1, x2, y2 = track.boxes(0).tolist()
    stage = visitor.locator("#overlay").bounding_box()
    middle = ((x1 + x2) / 2 / 50, (y1 + y2) / 2 / 40)
    visitor.mouse.move(
        stage["x"] + stage["width"] * middle[0], stage["y"] + stage["height"] * middle[1]
    )
    visitor.wait_for_selector("#hint:not([hidden])")
    assert "candidate" in visitor.inner_text("#hint")
    visitor.locator(".remove").first.click()
    settled(visitor)
    assert visitor.locator(".presence").count() == 1


def test_take_away(visitor, clip):
    bring(visitor, clip)
    type_sentence(visitor, "w3 w4")
    with visitor.expect_download(timeout=120_000) as waiting:
        visitor.click("#zip")
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        assert "00_w3_w4/overlay.mp4" in archive.namelist()
    visitor.click("#python")
    visitor.wait_for_selector("#code[open]")
    assert "index.query(['w3 w4']" in visitor.inner_text("#lines")
    visitor.keyboard.press("Escape")
    assert not visitor.locator("#code").is_visible()


def test_a_broken_file_says_what_is_wrong_and_the_next_one_works(visitor, clip, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    bring(visitor, broken)
    assert "broken.mp4: no frame can be decoded" in visitor.inner_text("#failed-text")
    large = tmp_path / "large.mp4"
    large.write_bytes(b"\0" * 300_000)
    bring(visitor, large)
    assert "larger than 0.2 MB" in visitor.inner_text("#failed-text")
    visitor.click("#again")
    bring(visitor, clip)
    assert visitor.inner_text("#clock") == "1 / 23"


def test_progress_is_shown_and_the_work_can_be_given_up(browser, segmenter, bundle, tmp_path):
    clip = write_clip(tmp_path / "long.mp4", 1200)
    folder = tmp_path / "brought"
    folder.mkdir()
    begun = "() => /of 1200 frames/.test(document.getElementById('busy-text').textContent)"
    with (
        served(segmenter, bundle, folder, limits=Limits()) as address,
        visit(browser, address) as tab,
    ):
        tab.set_input_files("#file", str(clip))
        tab.wait_for_function(begun)
        assert 0 < float(tab.locator("#busy-bar").evaluate("bar => bar.value")) < 1
        tab.click("#cancel")
        tab.wait_for_selector("#start:not([hidden])")
    assert not list(folder.iterdir())


def test_the_library_is_searched_and_opens_there(visitor, segmenter, library):
    visitor.click("#tab-library")
    visitor.locator("#search").press_sequentially("w3 w4")
    visitor.wait_for_selector(".hit")
    hits = segmenter.open_indexes(library).search(["w3 w4"])[0]
    assert visitor.locator(".hit strong").all_inner_texts() == [hit.video_id for hit in hits]
    visitor.locator(".hit").first.click()
    visitor.wait_for_selector("#about:not([hidden])")
    assert hits[0].video_id in visitor.inner_text("#name")
    assert visitor.inner_text("#clock") == f"{hits[0].frames.start + 1} / 12"
    assert visitor.locator(".line input").first.input_value() == "w3 w4"


def test_two_visitors_at_once(browser, page, clip, tmp_path):
    other = write_clip(tmp_path / "other.mp4", 12, 5)
    with visit(browser, page[0]) as one, visit(browser, page[0]) as two:
        bring(one, clip)
        bring(two, other)
        type_sentence(one, "w3 w4")
        type_sentence(two, "w7")
        assert one.inner_text("#clock") == "1 / 23" and two.inner_text("#clock") == "1 / 12"
        assert "clip" in one.inner_text("#name") and "other" in two.inner_text("#name")
        one.reload()  # the same video is there at once
        one.wait_for_selector("#about:not([hidden])")
        assert one.inner_text("#clock") == "1 / 23"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_is_cut_off_and_nothing_jumps(browser, page, width, scheme):
    with visit(
        browser, page[0], viewport={"width": width, "height": 844}, color_scheme=scheme
    ) as tab:
        tab.click(".example")
        tab.wait_for_selector("#about:not([hidden])", timeout=120_000)
        before = tab.locator("#stage").bounding_box()
        tab.evaluate("scrollTo(0, 0)")
        type_sentence(tab, "w3 w4")
        tab.keyboard.press("Enter")
        type_sentence(tab, "a long one of words that nobody knows, such as zebra", 1)
        inside = "row => row.getBoundingClientRect().right <= row.closest('.ask').clientWidth + row"
        inside += ".closest('.ask').getBoundingClientRect().left"
        assert all(line.evaluate(inside) for line in tab.locator(".line").all())
        tab.evaluate("scrollTo(0, 0)")
        assert tab.locator("#stage").bounding_box() == before
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) > 380) == (scheme == "light")


@pytest.mark.skipif(not (DEMO / "bundle").is_dir(), reason="no trained demo here: make demo")
def test_the_right_actor_of_a_demo_video(browser, tmp_path):
    import aamn
    from aamn.config.loading import load_config
    from aamn.config.schema import Config
    from aamn.data.datasets.registry import open_source

    segmenter = aamn.load(DEMO / "bundle", "cpu")
    data = load_config(Config, "aamn_demo", (f"data.root={DEMO / 'corpus'}",)).data
    source = open_source(data, data.test_split)
    video_id = source.video_ids[0]
    example = Example(Video(video_id, source.video_path(video_id)))
    text = source.sentences(video_id)[0].text
    with (
        served(segmenter, DEMO / "bundle", tmp_path, examples=(example,)) as address,
        visit(browser, address) as tab,
        segmenter.index(example.video.path) as index,
    ):
        tab.click(".example")
        tab.wait_for_selector("#about:not([hidden])", timeout=300_000)
        set_threshold(tab, "min")
        type_sentence(tab, text)
        (track,) = index.query(text, absent_threshold=None)
        assert agreement(shown_mask(tab, index.size), track.masks(0)) > 0.85
