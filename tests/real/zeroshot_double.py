"""Is the pipeline of the zero-shot system right? An image-text model is put in its place that knows
the synthetic corpus by construction: its images are the nearest of the corpus's paints and the
nearest silhouette of the training split, its texts the words for them. What is then answered wrong
is the pipeline's fault, or that of the boxes.

    PYTHONPATH=tests python tests/real/zeroshot_double.py --demo runs/demo [--videos 20]
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
from aamn.ops.boxes import pairwise_iou
from aamn.ops.masks import crop_masks
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


def silhouettes(corpus: Path, most: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (n, 16, 16) of actors of the training split and the places (n,) of what they are."""
    source, masks, names = A2DSentences(corpus, "train"), [], []
    for key_frame in source.key_frames:
        for expression, target in zip(
            key_frame.expressions, source.targets(key_frame), strict=True
        ):
            if expression.actor and len(masks) < most:
                masks.append(crop_masks(target.mask[None].float(), target.box[None], SILHOUETTE)[0])
                names.append(expression.actor - 1)
    found = torch.stack(masks)
    return torch.cat([found, found.flip(2)]), torch.tensor(names * 2)


class Double(ImageTextModel):
    """Stands for an image-text model; see above. A view whose background is not dimmed to black
    says nothing."""

    def __init__(self, masks: torch.Tensor, names: torch.Tensor) -> None:
        nn.Module.__init__(self)
        self.side, self.masks, self.names = SIDE, masks, names
        self.anchor = nn.Parameter(torch.zeros(()))
        self.paints = torch.tensor([*PAINTS.values()]) / 255

    @property
    def width(self) -> int:
        return len(NAMES)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.zeros(len(images), self.width)
        for row, image in zip(rows, images, strict=True):
            mask = image.amax(0) > 0.02
            if 0.02 < mask.float().mean() < 0.9:
                row[self._actor(mask)] = 1
                row[len(ACTORS) + self._paint(image, mask)] = 1
        return F.normalize(rows, dim=-1)

    def _actor(self, mask: torch.Tensor) -> int:
        """That of the silhouette with the highest IoU, cut to the mask's box."""
        ys, xs = mask.nonzero(as_tuple=True)
        cut = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].float()
        own = F.interpolate(cut[None, None], (SILHOUETTE, SILHOUETTE), mode="area")[0, 0]
        both = torch.minimum(own, self.masks).sum((1, 2))
        either = torch.maximum(own, self.masks).sum((1, 2))
        return int(self.names[(both / either).argmax()])

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--videos", type=int, default=1000, help="at most, of the test split")
    parser.add_argument("--attributes", action="store_true", help="the other describer, no double")
    options = parser.parse_args()
    corpus = options.demo / "corpus"
    overrides = list(RECIPE)
    if options.attributes:
        overrides[0] = "zeroshot.describers=attributes"
    config = load_config(Config, "zeroshot_boxes", overrides)
    double = None if options.attributes else (Double(*silhouettes(corpus)), "double")
    loaded = assemble(config, None, double).loaded
    source = A2DSentences(corpus, "test")
    chosen = set(source.video_ids[: options.videos])
    store = ProposalStore.read(options.demo / "proposals.h5")
    loaded.words.learn(source.texts())
    samples = SampleDataset(source, loaded.segmenter.input_spec, loaded.vocabulary, store)
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
