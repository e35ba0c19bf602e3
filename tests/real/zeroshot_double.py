"""Is the pipeline of the zero-shot system right? An image-text model is put in its place that knows
the synthetic corpus by construction: its images are the nearest of the corpus's paints and the
nearest picture of the training split, its texts the words for them. What is then answered wrong
is the pipeline's fault, or that of the boxes.

    PYTHONPATH=.:tests python tests/real/zeroshot_double.py --demo runs/demo [--videos 20]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.datasets.a2d import A2DSentences
from aamn.data.datasets.a2d_labels import ACTORS
from aamn.data.samples import SampleDataset
from aamn.data.synthetic.labels import COLOURS as PAINTS
from aamn.data.synthetic.sentences import NOUNS
from aamn.models.zeroshot.image_text import ImageTextModel
from aamn.models.zeroshot.segmenter import ZeroShot
from aamn.ops.boxes import pairwise_iou
from aamn.zeroshot.assemble import assemble
from proposals.store import ProposalStore

SIDE, SILHOUETTE = 48, 16
NAMES = (*ACTORS, *PAINTS)
RECIPE = (
    *("zeroshot.describers=image_text", "zeroshot.size=160", "zeroshot.radius=2"),
    *("zeroshot.proposals=6", "zeroshot.describe_every=1", "zeroshot.context=0"),
    *("zeroshot.dimmed=0", f"zeroshot.classes=[{','.join(ACTORS)}]"),
    *("zeroshot.prompts=['{}']", "zeroshot.gains.image_text=3"),
)


class Double(ImageTextModel):
    """Stands for an image-text model; see above. A view whose background is not dimmed to black
    says nothing."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.side, self.seen = SIDE, list[torch.Tensor]()
        self.templates, self.names = torch.zeros(0), list[int]()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.paints = torch.tensor([*PAINTS.values()]) / 255

    def learn(self, found: list[tuple[torch.Tensor, int]]) -> None:
        """Takes views (3, SIDE, SIDE) and the actors in them for templates, mirrored too."""
        templates = torch.stack([self._template(image, _shown(image)) for image, _ in found])
        self.templates = torch.cat([templates, templates.flip(-1)])
        self.names = [actor for _, actor in found] * 2

    @property
    def width(self) -> int:
        return len(NAMES)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        rows = torch.zeros(len(images), self.width)
        for row, image in zip(rows, images, strict=True):
            mask = _shown(image)
            if len(self.templates) and 0.02 < mask.float().mean() < 0.9:
                distance = (self.templates - self._template(image, mask)).abs().sum((1, 2, 3))
                row[self.names[int(distance.argmin())]] = 1
                row[len(ACTORS) + self._paint(image, mask)] = 1
        return F.normalize(rows, dim=-1)

    def _template(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(2, g, g): what is shown, and how bright it is beside its middle brightness, cut to the
        mask's box."""
        if not mask.any():
            return torch.zeros(2, SILHOUETTE, SILHOUETTE)
        ys, xs = mask.nonzero(as_tuple=True)
        box = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
        bright = image.mean(0)
        bright = (bright - bright[mask].median()) * mask
        both = torch.stack([mask.float(), bright])[:, box[0], box[1]]
        return F.interpolate(both[None], (SILHOUETTE, SILHOUETTE), mode="area")[0]

    def _paint(self, image: torch.Tensor, mask: torch.Tensor) -> int:
        """The paint that most of the mask's pixels are nearest to."""
        pixels = image[:, mask].T
        nearest = torch.cdist(pixels, self.paints).argmin(1)
        return int(nearest.mode().values)

    def encode_texts(self, texts) -> torch.Tensor:
        rows = torch.zeros(len(texts), self.width)
        for row, text in zip(rows, texts, strict=True):
            for place, name in enumerate(NAMES):
                words = NOUNS.get(name, (name,))
                said = any(f" {word} " in f" {text.lower().strip()} " for word in words)
                row[place] = float(said)
        return rows / rows.norm(dim=-1, keepdim=True).clamp(min=1)


def _shown(image: torch.Tensor) -> torch.Tensor:
    """Where an image (3, h, w) is not dimmed to black."""
    return image.amax(0) > 0.02


def templates(samples: SampleDataset, segmenter: ZeroShot, double: Double, most: int) -> None:
    """Shows the double the actors of key frames of the training split, as the system sees them."""
    found = []
    for number in range(0, len(samples), max(1, len(samples) // most)):
        sample, expressions = samples[number], samples.source.key_frames[number].expressions
        double.seen.clear()
        clips = segmenter.encode([sample.clip], [sample.proposals])
        boxes, key = sample.proposals.boxes[sample.clip.key], sample.clip.key
        dimmed = torch.cat([both.chunk(2)[1] for both in double.seen])  # where a tube is
        views = dimmed.new_zeros(*clips.tubes.linked.shape[1:], *dimmed.shape[1:])  # (K, T, ...)
        views[clips.tubes.linked[0]] = dimmed
        views = views[:, key]
        for expression, target in zip(expressions, sample.targets, strict=True):
            iou = pairwise_iou(target.box[None], boxes)[0]
            if expression.actor and iou.max() >= 0.6:
                found.append((views[int(iou.argmax())], expression.actor - 1))
    double.learn(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--videos", type=int, default=1000, help="at most, of the test split")
    parser.add_argument("--templates", type=int, default=200, help="training frames to learn from")
    parser.add_argument("--attributes", action="store_true", help="the other describer, no double")
    options = parser.parse_args()
    corpus = options.demo / "corpus"
    overrides = list(RECIPE)
    if options.attributes:
        overrides[0] = "zeroshot.describers=attributes"
    config = load_config(Config, "zeroshot_boxes", overrides)
    double = Double()
    given = None if options.attributes else (double, "double")
    loaded = assemble(config, None, given).loaded
    source = A2DSentences(corpus, "test")
    chosen = set(source.video_ids[: options.videos])
    store = ProposalStore.read(options.demo / "proposals.h5")
    loaded.words.learn(source.texts())
    spec = loaded.segmenter.input_spec
    samples = SampleDataset(source, spec, loaded.vocabulary, store)
    if given:
        learned = SampleDataset(A2DSentences(corpus, "train"), spec, loaded.vocabulary, store)
        with torch.inference_mode():
            templates(learned, loaded.segmenter, double, options.templates)
    right, reachable, count = Counter(), Counter(), Counter()
    with torch.inference_mode():
        for number, key_frame in enumerate(source.key_frames):
            if key_frame.video_id not in chosen:
                continue
            sample = samples[number]
            key = sample.clip.key
            tracks = loaded.segmenter.segment(sample.clip, sample.proposals, sample.queries)
            for target, track in zip(sample.targets, tracks, strict=True):
                box = target.box[None]
                held = pairwise_iou(sample.proposals.boxes[key], box).max() >= 0.5
                count[target.kind] += 1
                reachable[target.kind] += bool(held)
                hit = bool(pairwise_iou(track.boxes[key][None], box)[0, 0] >= 0.5)
                right[target.kind] += hit
                if held and not hit:
                    print(f"  {key_frame.video_id} {key_frame.frame}: {track.text!r}")
    print(f"{'sentences':<14}{'n':>6}{'a box holds it':>16}{'right':>8}{'of these':>10}")
    for kind in sorted(count):
        n, there = count[kind], reachable[kind]
        share = 100 * right[kind] / max(1, there)
        print(f"{kind:<14}{n:6d}{there:16d}{right[kind]:8d}{share:9.1f}%")


if __name__ == "__main__":
    main()
