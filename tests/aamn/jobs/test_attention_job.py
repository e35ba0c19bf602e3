"""Which frame and pixel are drawn, and what is refused, without a network."""

import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aamn.jobs import attention as attention_job
from aamn.jobs.attention import draw_attention
from aamn.models.baselines.acga import ACGA
from aamn.models.baselines.cstm import CSTM
from proposals.decoding import Video
from proposals.errors import InputError


@pytest.mark.parametrize(
    ("pixel", "found"),
    [(None, (20, 15)), ((0, 0), (0, 0)), ((39, 29), (39, 29)), ((39, 0), (39, 0))],
)
def test_a_pixel_of_the_frame_or_its_centre(pixel, found):
    assert attention_job._checked(pixel, (30, 40)) == found


@pytest.mark.parametrize("pixel", [(40, 0), (0, 30), (-1, 0), (0, -1)])
def test_a_pixel_outside_is_refused(pixel):
    said = f"--pixel {pixel[0]} {pixel[1]}: wanted a pixel of the frame, which is 40x30"
    with pytest.raises(InputError, match=f"^{said}$"):
        attention_job._checked(pixel, (30, 40))


class Frames:
    """Five frames of 40x30 pixels, each of its number."""

    path, size = Path("clip.mp4"), (30, 40)

    def __len__(self):
        return 5

    def read(self, indices):
        return np.stack([np.full((30, 40, 3), n, np.uint8) for n in indices])


@pytest.mark.parametrize(("frame", "key"), [(None, 2), (0, 0), (4, 4)])
def test_a_frame_of_the_video_or_the_middle_one(frame, key):
    assert attention_job._key_frame(frame, Frames()) == key


@pytest.mark.parametrize("frame", [5, -1])
def test_a_frame_that_is_not_there_is_refused(frame):
    with pytest.raises(InputError, match=rf"^--frame {frame}: clip\.mp4 has 5 frames$"):
        attention_job._key_frame(frame, Frames())


def system(kind, **attributes):
    """An object of that class without its networks."""
    made = kind.__new__(kind)
    vars(made).update(attributes)
    return made


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws with a system; what was read, and the picture and the pixel that were drawn."""
    seen = []

    @contextmanager
    def open_frames(path):
        seen.append(path)
        yield Frames()

    def load_clip(*given):
        seen.append(given)
        return "the clip"

    def draw(own, clip, query, frame, pixel, out):
        seen.append((own, clip, query, int(frame[0, 0, 0]), pixel, out))
        return {"weights": [1]}

    monkeypatch.setattr(attention_job, "open_frames", open_frames)
    monkeypatch.setattr(attention_job, "load_clip", load_clip)
    monkeypatch.setattr(attention_job, "_draw_acga", draw)
    monkeypatch.setattr(attention_job, "_draw_cstm", draw)

    def run(own, *where):
        words = SimpleNamespace(queries=lambda text: [f"<{text}>"])
        config = SimpleNamespace(flow="how flow is computed")
        loaded = SimpleNamespace(segmenter=own, words=words, config=config)
        inputs = SimpleNamespace(loaded=loaded, flow="stored flow")
        draw_attention(inputs, Video("v", Path("x.mp4")), "a dog", tmp_path, *where)
        return seen

    return run


@pytest.mark.parametrize("kind", [ACGA, CSTM])
def test_everything_reaches_the_drawing(drawn, tmp_path, caplog, kind):
    own = system(kind, input_spec="what it wants")
    where = (3, (35, 5)) if kind is ACGA else (3,)
    with caplog.at_level("INFO", "aamn"):
        path, clip, found = drawn(own, *where)
    pixel = (35, 5) if kind is ACGA else (20, 15)
    assert path == Path("x.mp4")
    assert (clip[0], *clip[2:]) == ("v", 3, "what it wants", "stored flow", "how flow is computed")
    assert found == (own, "the clip", "<a dog>", 3, pixel, tmp_path)
    record = json.loads((tmp_path / "attention.json").read_text())
    assert record == {"video_id": "v", "frame": 3, "sentence": "a dog", "weights": [1]}
    assert caplog.messages == [f"wrote {tmp_path}"]


@pytest.fixture
def pictures(monkeypatch):
    """What would be drawn, by the file's name, as (the function, what it is given)."""
    written = {}
    for name in ("word_sheet", "attended_picture", "selection_sheet"):
        monkeypatch.setattr(attention_job, name, lambda *given, name=name: (name, *given))
    monkeypatch.setattr(
        attention_job, "write_picture", lambda path, picture: written.update({path: picture})
    )
    return written


def same(found, wanted):
    """Whether two tuples hold the same arrays and the same other things."""
    return all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_acga_s_words_and_places_in_each_stream(monkeypatch, pictures, tmp_path):
    rng, asked = torch.Generator().manual_seed(0), []
    words = {stream: torch.rand(3, 2, 4, generator=rng) for stream in ("rgb", "flow")}
    cells = {stream: torch.rand(2, 4, 2, 4, generator=rng) for stream in ("rgb", "flow")}

    def attention(*given):
        asked.append(given)
        return SimpleNamespace(words=words[given[2]], cells=cells[given[2]])

    own = SimpleNamespace(networks={"rgb": 0, "flow": 0}, attention=attention)
    clip, query = SimpleNamespace(geometry="fitted"), SimpleNamespace(tokens=("red", "dog", "here"))
    monkeypatch.setattr(attention_job, "cell_of", lambda *given: (1, 2) if given == at else None)
    at = (9, 7, "fitted", (2, 4))
    record = attention_job._draw_acga(own, clip, query, "frame", (9, 7), tmp_path)
    assert asked == [(clip, query, "rgb"), (clip, query, "flow")]
    assert record.pop("pixel") == (9, 7) and list(record) == ["rgb", "flow"]
    for stream, found in record.items():
        assert found["cell"] == (1, 2)
        weights = words[stream].numpy()
        names = list(query.tokens)
        assert found["words"] == list(zip(names, weights[:, 1, 2].tolist(), strict=True))
        (kind, frame, named, *rest) = pictures.pop(tmp_path / f"words_{stream}.png")
        assert (kind, frame, named) == ("word_sheet", "frame", names)
        assert same(rest, (weights, "fitted", (9, 7)))
        (kind, frame, *rest) = pictures.pop(tmp_path / f"attended_{stream}.png")
        assert (kind, frame) == ("attended_picture", "frame")
        assert same(rest, (cells[stream].numpy(), "fitted", (9, 7)))
    assert not pictures


def test_cstm_s_weights_and_maps_at_each_stage(pictures, tmp_path):
    asked, parts = [], ("spatial", "temporal", "spatial_map", "temporal_map")
    found = [
        SimpleNamespace(stage=stage, **{name: torch.rand(3) for name in parts}) for stage in (5, 3)
    ]
    own = SimpleNamespace(selection=lambda *given: asked.append(given) or found)
    clip = SimpleNamespace(geometry="fitted")
    record = attention_job._draw_cstm(own, clip, "query", "frame", (1, 1), tmp_path)
    assert asked == [(clip, "query")] and list(record) == ["stage 5", "stage 3"]
    for one in found:
        arrays = [getattr(one, name).numpy() for name in parts]
        both = {"spatial": arrays[0].tolist(), "temporal": arrays[1].tolist()}
        assert record[f"stage {one.stage}"] == both
        kind, frame, weights, maps, fitted = pictures.pop(tmp_path / f"selection_{one.stage}.png")
        assert (kind, frame, fitted) == ("selection_sheet", "frame", "fitted")
        assert same((*weights, *maps), arrays)
    assert not pictures


def test_a_cstm_without_lgfs_has_nothing_to_draw(pictures, tmp_path):
    own = SimpleNamespace(selection=lambda *_: [])
    with pytest.raises(InputError, match=r"trained without LGFS; train one with --set cstm\.lgfs="):
        attention_job._draw_cstm(own, None, None, None, (0, 0), tmp_path)
    assert not pictures


def test_a_pixel_is_for_acga_alone(drawn):
    with pytest.raises(InputError, match=r"^--pixel: for acga alone"):
        drawn(system(CSTM), None, (1, 1))


def test_a_system_that_is_not_drawn_here_is_named(drawn, tmp_path):
    with pytest.raises(InputError, match=r"^only acga and cstm are drawn here, .* of Frames; "):
        drawn(system(Frames, input_spec=None))
    assert not list(tmp_path.iterdir())
