"""Tubes described once: what learns from them learns what it would learn from the clips."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_models import VOCABULARY, random_sample, tiny_config, tiny_segmenter
from tiny_training import RUN, curve

from aamn.config.schema import AugmentConfig, DataConfig
from aamn.data.augment import Change, change_sample
from aamn.data.samples import Draw
from aamn.inference.checkpoint import read_checkpoint
from aamn.training import loop, tubes
from aamn.training.loop import train
from proposals.errors import InputError

PLUS = (
    *("aamn.matching=relation", "aamn.statistics=colour+motion", "aamn.objective.loss=softmax"),
    *("aamn.objective.across=1", "aamn.language.values=states", "aamn.relation.channels=16"),
    *("aamn.relation.dropout=0", "aamn.language.word_dropout=0", "aamn.backbone.dropout=0"),
)
SHOWN = "train.phases=[{share: 0.5, shown: key_frames}, {share: 0.5, shown: tubes, batch: 3}]"
PHASED = (*RUN, *PLUS, SHOWN, "train.optimiser.iterations=6")


class Clips(torch.utils.data.Dataset):
    """Samples of noise behind the interface of SampleDataset; every second draw is mirrored and
    leaves the first sentence out."""

    def __init__(self, segmenter, count=4, augment=None):
        self.augment, self.vocabulary = augment or AugmentConfig(flip=0.5), VOCABULARY
        self.samples = [random_sample(segmenter, s, f"v{s}", (3, 1, 5)) for s in range(count)]
        texts = [[SimpleNamespace(text=q.text) for q in s.queries] for s in self.samples]
        frames = [
            SimpleNamespace(video_id=s.clip.video_id, frame=7, expressions=told)
            for s, told in zip(self.samples, texts, strict=True)
        ]
        self.source, self.described = SimpleNamespace(key_frames=frames), 0

    def __len__(self):
        return len(self.samples)

    def views(self, index, changes):
        self.described += len(changes)
        return [change_sample(self.samples[index], change, VOCABULARY) for change in changes]

    def draw(self, epoch, index):
        odd = bool((epoch + index) % 2)
        return Draw(Change(flip=odd), (1, 2) if odd else (0, 1, 2), ())

    def __getitem__(self, place):
        draw = self.draw(*place)
        (sample,) = self.views(place[1], (draw.change,))
        return replace(
            sample,
            queries=tuple(sample.queries[i] for i in draw.sentences),
            targets=tuple(sample.targets[i] for i in draw.sentences),
        )

    def of_key_frames(self):
        """The middle frames alone."""
        alone = object.__new__(Clips)
        alone.__dict__.update(self.__dict__, samples=[key_frame(s) for s in self.samples])
        return alone


def key_frame(sample):
    key = slice(sample.clip.key, sample.clip.key + 1)
    cut = {name: getattr(sample.clip, name)[key] for name in ("frame_indices", "rgb", "flow")}
    boxes = {
        name: getattr(sample.proposals, name)[key]
        for name in ("frame_indices", "boxes", "scores", "labels", "valid")
    }
    proposals = replace(sample.proposals, **boxes)
    return replace(sample, clip=replace(sample.clip, **cut, key=0), proposals=proposals)


def kept(segmenter, clips, folder):
    return tubes.keep_tubes(segmenter, clips, folder, DataConfig(workers=0))


def test_the_loss_of_kept_tubes_is_that_of_their_clips(tmp_path):
    """Also mirrored, with some of the sentences; both of one batch."""
    segmenter = tiny_segmenter(*PLUS)
    clips = Clips(segmenter)
    data = tubes.TubeDataset(clips, kept(segmenter, clips, tmp_path))
    places = [(0, 0), (0, 1), (1, 2)]
    wanted = segmenter([clips[place] for place in places])
    found = segmenter.matching_losses([data[place] for place in places])
    assert found["matching"].item() == pytest.approx(wanted["matching"].item(), rel=2e-3)
    assert found["total"] == found["matching"] and "mask" not in found
    assert found["count/sentences"] == wanted["count/sentences"] == 7
    aside = segmenter.matching_losses([data[0, 1]])["matching"]
    assert aside.item() != pytest.approx(found["matching"].item(), rel=2e-2)


def test_the_mask_loss_of_key_frames_is_that_of_their_clips():
    segmenter = tiny_segmenter(*PLUS)
    clips = Clips(segmenter)
    wanted = segmenter([clips[0, 0], clips[0, 2]])["mask"]
    alone = clips.of_key_frames()
    found = segmenter.mask_losses([alone[0, 0], alone[0, 2]])
    torch.testing.assert_close(found["mask"], wanted)
    assert found["total"] == segmenter.config.mask_loss_weight * found["mask"]


def test_tubes_are_described_in_half_precision_too(tmp_path):
    segmenter = tiny_segmenter(*PLUS)
    whole = kept(segmenter, Clips(segmenter), tmp_path / "whole")
    with torch.autocast("cpu", torch.bfloat16):
        half = kept(segmenter, Clips(segmenter), tmp_path / "half")
    a, b = (one.tubes.aggregated["rgb"].float() for one in (whole, half))
    torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)
    assert not torch.equal(a, b)


def test_tubes_are_kept_until_what_describes_them_changes(tmp_path):
    segmenter = tiny_segmenter(*PLUS)
    clips = Clips(segmenter)
    first = kept(segmenter, clips, tmp_path)
    assert clips.described == 8, "four clips, in two views"
    with torch.no_grad():
        segmenter.heads["relation"].matching.visual.weight.mul_(2)
    again = kept(segmenter, clips, tmp_path)
    assert clips.described == 8, "matching describes nothing"
    assert torch.equal(first.tubes.aggregated["rgb"], again.tubes.aggregated["rgb"])
    with torch.no_grad():
        next(segmenter.streams["rgb"].parameters()).mul_(2)
    assert kept(segmenter, clips, tmp_path).identity != first.identity and clips.described == 16
    (tmp_path / tubes.FILE).write_bytes(b"cut")
    assert kept(segmenter, clips, tmp_path).first.tolist() == [0, 3, 6, 9, 12]
    assert clips.described == 24, "a file that is no whole one is made again"


@pytest.mark.parametrize("name", ["colour", "scale"])
def test_changes_that_kept_tubes_cannot_show_are_refused(tmp_path, name):
    segmenter = tiny_segmenter(*PLUS)
    clips = Clips(segmenter, augment=AugmentConfig(**{name: 0.3}))
    with pytest.raises(InputError, match=rf"augment\.{name}: tubes that are described once"):
        kept(segmenter, clips, tmp_path)


def run(out, *overrides, **options):
    values = (*PHASED, *overrides)
    segmenter = tiny_segmenter(*values)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    clips = Clips(segmenter)
    train(tiny_config(*values), segmenter, clips, out, **options)
    after = segmenter.state_dict()
    return {n for n, value in before.items() if not torch.equal(value, after[n])}, clips


def starts(names):
    return {name.split(".")[0] for name in names}


def test_key_frames_teach_masks_and_tubes_matching(tmp_path):
    first, _ = run(tmp_path, stop_after=3)
    assert starts(first) == {"streams", "mask_head"}
    second, _ = run(tmp_path)
    assert starts(second) >= {"heads", "language", "tube_layers", "statistics"}
    lines = curve(tmp_path)
    assert ["mask" in line for line in lines] == [True] * 3 + [False] * 3
    assert ["matching" in line for line in lines] == [False] * 3 + [True] * 3
    assert lines[0]["count/sentences"] < lines[3]["count/sentences"], "a larger batch"


def test_a_run_stopped_among_its_tubes_resumes_to_the_same_curve(tmp_path):
    run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=4)
    _, clips = run(tmp_path / "parts")
    assert clips.described == 0, "the file is there"
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    one, other = (read_checkpoint(tmp_path / n / "last.pt")["model"] for n in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_system_without_tubes_refuses_them(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TubeMatching", ())
    with pytest.raises(InputError, match="learns from clips alone; it has no tubes"):
        run(tmp_path, "train.phases=[{shown: tubes}]")
