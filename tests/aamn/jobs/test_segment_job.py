"""What `aamn segment` makes of its options, before and between what is heavy."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from aamn.config.schema import Config
from aamn.data.datasets.source import Expression
from aamn.index.file import NO_END, WHOLE, Selection
from aamn.jobs import segment as segment_job
from aamn.jobs.segment import Job, SegmentOptions, segment_videos
from aamn.models.indexable import IndexableSegmenter
from aamn.models.segmenter import Segmenter as OneStage
from aamn.tubes.video_linking import TRANSITION_COST
from proposals.decoding import Video
from proposals.errors import InputError

CLIP = Video("clip", Path("clip.mp4"))


def as_loaded(system="aamn", offsets=(-1, 0, 1), proposals=4):
    """A system that is only asked what it wants and which words it knows."""
    spec = SimpleNamespace(offsets=offsets, proposals=proposals)
    words = SimpleNamespace(queries=lambda texts: [f"<{text}>" for text in texts])
    config = replace(Config(), system=system)
    segmenter = IndexableSegmenter() if system == "aamn" else OneStage()
    segmenter.input_spec = spec
    return SimpleNamespace(segmenter=segmenter, config=config, words=words)


class Frames:
    """A video of seven frames, which lacks what `lacking` was asked about."""

    def __len__(self):
        return 7

    def lacking(self, *count):
        return f"lacking{count}"


# Which frames


@pytest.mark.parametrize(
    ("start", "end", "stride", "count", "wanted"),
    [
        (0, None, 1, 7, range(7)),
        (2, 5, 2, 7, range(2, 5, 2)),
        (6, 9, 1, 7, range(6, 7)),
        (0, 1, 1, 7, range(1)),
        (3, None, 4, NO_END, range(3, NO_END, 4)),
    ],
)
def test_wanted_frames_are_those_of_the_video(start, end, stride, count, wanted):
    found = segment_job._wanted(SegmentOptions(start=start, end=end, stride=stride), count)
    assert found.frames == wanted and found.palette is False
    assert segment_job._wanted(SegmentOptions(palette=True), count).palette is True


@pytest.mark.parametrize(
    ("start", "end", "stride", "count", "known"),
    [
        (7, None, 1, 7, "; the video has 7 frames"),
        (-1, None, 1, 7, "; the video has 7 frames"),
        (3, 3, 1, NO_END, ""),
        (0, None, 0, NO_END, ""),
    ],
)
def test_frames_that_are_none_are_refused(start, end, stride, count, known):
    with pytest.raises(InputError) as refused:
        segment_job._wanted(SegmentOptions(start=start, end=end, stride=stride), count)
    given = f"--start {start} --end {end} --stride {stride}"
    assert str(refused.value) == f"{given}: wanted 0 <= start < end and stride above 0{known}"


# Which videos and sentences


class Source:
    video_ids = ("a", "b", "c")

    def video_path(self, video_id):
        return Path(f"root/{video_id}.mp4")

    def sentences(self, video_id):
        return [Expression(video_id, n, f"{video_id} {n}") for n in range(2)]


@pytest.fixture
def opened(monkeypatch):
    """The data sets and splits that are opened."""
    asked = []

    def open_source(data, split):
        asked.append((data.root, data.kind, split))
        return Source()

    monkeypatch.setattr(segment_job, "open_source", open_source)
    return asked


@pytest.mark.parametrize(
    ("options", "split", "wanted"),
    [
        ({"count": 2}, "test", {"a": ("a 0", "a 1"), "b": ("b 0", "b 1")}),
        ({"split": "train", "texts": ("w",)}, "train", {"a": ("w",), "b": ("w",), "c": ("w",)}),
    ],
)
def test_a_data_set_s_videos_with_their_own_sentences_or_the_given_ones(
    opened, options, split, wanted
):
    found = segment_job._jobs(SegmentOptions(data="root", **options), as_loaded())
    videos = [Video(name, Path(f"root/{name}.mp4")) for name in wanted]
    assert found == [Job(v, t) for v, t in zip(videos, wanted.values(), strict=True)]
    assert opened == [("root", Config().data.kind, split)]


def test_a_named_video_comes_before_a_data_set(opened):
    options = SegmentOptions(video=CLIP.path, texts=("w",), data="root", video_id="x")
    assert segment_job._jobs(options, as_loaded()) == [Job(Video("x", CLIP.path), ("w",))]
    assert not opened


def test_an_index_knows_its_video(monkeypatch):
    header = SimpleNamespace(header=SimpleNamespace(video_id="x"), path=CLIP.path)
    monkeypatch.setattr(segment_job, "IndexFile", SimpleNamespace(read={"i.h5": header}.get))
    monkeypatch.setattr(segment_job, "video_of", lambda index: index.path)
    found = segment_job._jobs(SegmentOptions(index="i.h5", texts=("w",)), as_loaded())
    assert found == [Job(Video("x", CLIP.path), ("w",))]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"texts": ("w",)}, "wanted VIDEO (or --video PATH), or --data ROOT for its videos"),
        ({"video": CLIP.path}, 'wanted at least one --query "SENTENCE"'),
    ],
)
def test_without_a_video_or_a_sentence_there_is_nothing_to_do(options, said):
    with pytest.raises(InputError) as refused:
        segment_job._jobs(SegmentOptions(**options), as_loaded())
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("system", "options", "said"),
    [
        ("aamn", {"transition_cost": 0.75, "linking": "clip"}, "--transition-cost: wanted with"),
        ("acga", {"transition_cost": 0.75, "linking": "clip"}, "--transition-cost: wanted with"),
        ("acga", {"transition_cost": 0.75}, "--transition-cost: for aamn and zeroshot alone"),
        ("acga", {"absent_threshold": 0.0}, "--absent-threshold: for aamn and zeroshot alone"),
        (
            "cstm",
            {"index": Path("i.h5")},
            "--index: for aamn and zeroshot alone, the checkpoint is of cstm",
        ),
        ("aamn", {"transition_cost": 0.75, "absent_threshold": 0.0, "index": Path("i.h5")}, None),
        ("acga", {"transition_cost": TRANSITION_COST, "linking": "clip"}, None),
    ],
)
def test_what_a_system_does_not_look_at_is_refused(system, options, said):
    given = SegmentOptions(**options), as_loaded(system)
    if said is None:
        return segment_job._refuse_useless(*given)
    with pytest.raises(InputError) as refused:
        segment_job._refuse_useless(*given)
    assert str(refused.value).startswith(said)


# Boxes and indexes of a video


@pytest.mark.parametrize("failures", [{}, {"clip": "clip.mp4 is no video"}])
def test_a_detector_s_boxes_are_written_beside_the_results_each_time_anew(
    monkeypatch, tmp_path, failures
):
    asked = []

    def extract(*given):
        asked.append(given)
        return SimpleNamespace(failures=failures)

    monkeypatch.setattr(segment_job, "extract", extract)
    monkeypatch.setattr(segment_job.ProposalStore, "read", lambda path: f"read {path}")
    inputs = SimpleNamespace(store=None, detector="its detector")
    if failures:
        with pytest.raises(InputError, match=r"^clip\.mp4 is no video$"):
            segment_job._proposals(inputs, CLIP, tmp_path)
    else:
        found = segment_job._proposals(inputs, CLIP, tmp_path)
        assert found == f"read {tmp_path / 'proposals.h5'}"
    ((detector, videos, path, options),) = asked
    assert (detector, videos, path) == ("its detector", [CLIP], tmp_path / "proposals.h5")
    assert options.replace, "those of an earlier video of that name are not taken for its own"
    inputs.store = "a given file"
    assert segment_job._proposals(inputs, CLIP, tmp_path) == "a given file" and len(asked) == 1


class Segmenter:
    """Notes what is built; its index is of `held` frames and answers for seven."""

    def __init__(self, held=WHOLE):
        self.done = []
        self.query_encoder = SimpleNamespace(loaded=as_loaded(), queries=self.done.append)
        header = SimpleNamespace(selection=held, frames=7)
        self.index = SimpleNamespace(
            header=header, video_id="clip", query=self.query, check=self.done.append
        )

    def build(self, *given, **more):
        self.done.append((given, more))

    def read_index(self, path):
        self.done.append(path)
        return self.index

    def query(self, texts, **more):
        self.done.append((texts, more))
        return [SimpleNamespace(facts=f"{t}!", query=f"<{t}>", verdict=t) for t in texts]


def test_an_index_of_the_wanted_frames_is_built_anew_in_the_results(tmp_path):
    segmenter = Segmenter()
    options = SegmentOptions(start=2, stride=9)
    assert segment_job._index(options, segmenter, CLIP, tmp_path) is segmenter.index
    path = tmp_path / "index" / "clip.h5"
    selection = Selection(range(2, NO_END, 9))
    assert segmenter.done == [((CLIP, path, selection), {"again": True, "every": 1}), path]


@pytest.mark.parametrize(("held", "fits"), [(WHOLE, True), (Selection(range(4)), False)])
def test_a_given_index_is_asked_where_it_holds_what_is_wanted(held, fits, tmp_path):
    segmenter, options = Segmenter(held), SegmentOptions(index=Path("i.h5"), end=6)
    if fits:
        assert segment_job._index(options, segmenter, CLIP, tmp_path) is segmenter.index
    else:
        with pytest.raises(InputError, match=rf"^i\.h5 is an index of {held} alone; choose among"):
            segment_job._index(options, segmenter, CLIP, tmp_path)
    assert segmenter.done == [Path("i.h5")], "nothing is built"


@pytest.fixture
def written(monkeypatch):
    """What is written, in place of results."""
    found = []

    def write_results(*given):
        found.append(given)
        return [Path(f"out/{n}") for n, _ in enumerate(given[3])]

    monkeypatch.setattr(segment_job, "write_results", write_results)
    monkeypatch.setattr(segment_job, "open_frames", lambda path: Frames())
    monkeypatch.setattr(segment_job, "_say", lambda *given: found.append(given))
    return found


@pytest.mark.parametrize(("held", "asked"), [(WHOLE, (7,)), (Selection(range(7)), (None,))])
def test_through_an_index_everything_reaches_the_answer(
    monkeypatch, written, tmp_path, held, asked
):
    monkeypatch.setattr(segment_job, "answers", lambda tracks, frames: ("answers", frames))
    segmenter = Segmenter(held)
    options = SegmentOptions(linking="clip", transition_cost=0.75, end=6, index=Path("i.h5"))
    job = Job(CLIP, ("w", "v"))
    lacking = segment_job._by_index(options, segmenter, 0.25, job, tmp_path)
    assert lacking == f"lacking{asked}", "what a part of the index shows is no frame count"
    texts, _, frames, (asked_texts, more) = segmenter.done
    assert texts == asked_texts == ("w", "v"), "unknown words are said before the work"
    assert isinstance(frames, Frames), "the index is of this video"
    assert more == {"linking": "clip", "absent_threshold": 0.25, "transition_cost": 0.75}
    (out, video_id, _, queries, found, wanted, facts), said = written
    assert (out, video_id, queries, facts) == (tmp_path, "clip", ["<w>", "<v>"], ["w!", "v!"])
    assert found == ("answers", range(6)) and wanted.frames == range(6)
    assert said == ([Path("out/0"), Path("out/1")], "clip", ["w", "v"])


def test_a_mistake_in_a_sentence_is_found_before_the_work(written, tmp_path):
    segmenter = Segmenter()

    def refuse(texts):
        raise InputError("'?!' holds no word")

    segmenter.query_encoder.queries = refuse
    with pytest.raises(InputError, match="holds no word"):
        segment_job._by_index(SegmentOptions(), segmenter, None, Job(CLIP, ("?!",)), tmp_path)
    assert not segmenter.done and not written


@pytest.mark.parametrize("boxes", [4, 0])
def test_clip_by_clip_everything_reaches_the_answer(monkeypatch, written, tmp_path, boxes):
    asked, checked = [], []
    store = SimpleNamespace(check=lambda *given: checked.append(given))
    judged = SimpleNamespace(facts="its facts", verdicts="its verdicts")
    monkeypatch.setattr(segment_job, "segment_video", lambda *given: asked.append(given) or "found")
    monkeypatch.setattr(segment_job, "JudgedAnswers", lambda *given: asked.append(given) or judged)
    loaded, inputs = as_loaded("acga", proposals=boxes), SimpleNamespace(store=store, flow="flow")
    options, job = SegmentOptions(start=2), Job(CLIP, ("w",))
    assert segment_job._clip_by_clip(options, loaded, inputs, job, tmp_path) == "lacking()"
    (segmenter, video_id, frames, *rest), judging = asked
    given = store if boxes else None
    assert segmenter is loaded.segmenter and video_id == "clip"
    assert rest == [["<w>"], given, "flow", loaded.config.flow, range(2, 7)]
    assert judging == (["<w>"], "found")
    assert checked == ([("clip", frames)] if boxes else [])
    (out, video_id, _, queries, found, wanted, facts), said = written
    assert (out, video_id, queries, found, facts) == (
        tmp_path,
        "clip",
        ["<w>"],
        judged,
        "its facts",
    )
    assert wanted.frames == range(2, 7) and said == ([Path("out/0")], "clip", "its verdicts")


def test_each_sentence_s_folder_is_printed_with_what_it_came_to(capsys, caplog):
    verdicts = [SimpleNamespace(query=SimpleNamespace(text="a dog"))]
    with caplog.at_level("INFO", "aamn"):
        segment_job._say([Path("out/00_a_dog")], "clip", verdicts)
    assert capsys.readouterr().out == "out/00_a_dog\n"
    assert caplog.messages == [f"'a dog' in clip: {verdicts[0]}"]


# The whole job


@pytest.fixture
def run(monkeypatch, tmp_path, opened):
    """Segments with videos that end as `ends` says: (exit code, folders by video)."""
    monkeypatch.chdir(tmp_path)

    def run(system="aamn", ends=None, **options):
        folders, asked = {}, []

        def segment(*given):
            *common, job, out = given
            assert common == ([chosen, "segmenter", 0.5] if system == "aamn" else by_clip)
            folders[job.video.video_id] = str(out)
            end = (ends or {}).get(job.video.video_id, "")
            if isinstance(end, InputError):
                raise end
            return end

        monkeypatch.setattr(segment_job, "_by_index", segment)
        monkeypatch.setattr(segment_job, "_clip_by_clip", segment)
        inputs = SimpleNamespace(
            loaded=as_loaded(system),
            absent_threshold={None: 0.5}.get,
            video_segmenter=lambda boxes_needed: asked.append(boxes_needed) or "segmenter",
        )
        chosen = SegmentOptions(**options)
        by_clip = [chosen, inputs.loaded, inputs]
        code = segment_videos(inputs, chosen)
        assert asked == ([options.get("index") is None] if system == "aamn" else [])
        return code, folders

    return run


@pytest.mark.parametrize("system", ["aamn", "acga"])
@pytest.mark.parametrize(
    ("options", "folders"),
    [
        ({"data": "r", "count": 2}, {"a": "runs/videos/a", "b": "runs/videos/b"}),
        ({"data": "r", "count": 2, "out": Path("o")}, {"a": "o/a", "b": "o/b"}),
        ({"data": "r", "count": 1}, {"a": "runs/a"}),
        ({"data": "r", "count": 1, "out": Path("o")}, {"a": "o"}),
        (
            {"video": Path("x/y.mp4"), "texts": ("w",), "video_id": "../z"},
            {"../z": "runs/%2E.%2Fz"},
        ),
    ],
    ids=str,
)
def test_where_results_go(run, system, options, folders):
    assert run(system, **options) == (0, folders)


def test_what_failed_or_lacks_is_listed_at_the_end(run, caplog):
    ends = {"a": InputError("a.mp4 is no video"), "c": "video ends at frame 3 of 9"}
    code, folders = run(ends=ends, data="r")
    assert code == 1 and list(folders) == ["a", "b", "c"]
    assert caplog.messages == ["a: a.mp4 is no video", "c: video ends at frame 3 of 9"]


def test_the_only_video_s_failure_is_the_job_s(run, caplog):
    with pytest.raises(InputError, match=r"^a\.mp4 is no video$"):
        run(ends={"a": InputError("a.mp4 is no video")}, data="r", count=1)
    assert not caplog.messages
    assert run(ends={"a": "short"}, data="r", count=1)[0] == 1
    assert caplog.messages == ["a: short"]


def test_a_place_that_cannot_be_written_is_found_before_all_else(run, tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match="cannot write runs: a file is where a folder is wanted"):
        run(data="r")
    assert run(data="r", out=Path("o"))[0] == 0
