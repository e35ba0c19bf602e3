"""A video of coloured squares on grey, a detector that finds them by their colours, and the
zero-shot system of small parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.index.query_encoder import QueryEncoder
from aamn.models.zeroshot.colours import colour_shares
from aamn.models.zeroshot.image_text import ImageTextModel
from aamn.models.zeroshot.sentences import COLOUR_WORDS, COLOURS
from aamn.predictor import VideoSegmenter
from aamn.zeroshot.assemble import assemble
from proposals.identity import identity_of
from proposals.store import Attributes
from proposals.store_writer import write_proposals

SIZE = (48, 96)
GREY = (70, 70, 70)
RED, BLUE, GREEN = (220, 25, 30), (35, 70, 235), (25, 175, 50)
CLASSES = ("dog", "cat", "car")
# colour, class, left edge, top, side, pixels a frame to the right
SQUARES = ((RED, "dog", 6, 14, 16, 1), (BLUE, "dog", 70, 14, 16, 0), (GREEN, "cat", 44, 2, 12, 0))


def draw(count=12, squares=SQUARES):
    """Frames (count, H, W, 3) uint8."""
    frames = np.full((count, *SIZE, 3), GREY, np.uint8)
    for colour, _, x, y, side, step in squares:
        for number, frame in enumerate(frames):
            left = x + step * number
            frame[y : y + side, left : left + side] = colour
    return frames


def box_of(frame, colour):
    """x1 y1 x2 y2 of the pixels with a colour, or None."""
    ys, xs = np.nonzero((frame == colour).all(-1))
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None


class Squares:
    """Stands for a detector: the boxes of the known colours, and what they are."""

    def __init__(self, squares=SQUARES, classes=CLASSES):
        self.squares = squares
        self.attributes = Attributes("squares", "", classes, {})

    def detect(self, frames):
        return [self._found(frame) for frame in frames]

    def _found(self, frame):
        rows = [(box_of(frame, colour), name) for colour, name, *_ in self.squares]
        rows = [(box, name) for box, name in rows if box is not None]
        boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
        scores = np.linspace(0.9, 0.8, len(rows), dtype=np.float32)
        labels = np.array([self.attributes.classes.index(name) for _, name in rows], np.int64)
        return Found(boxes, scores, labels)


class Found:
    def __init__(self, boxes, scores, labels):
        self.boxes, self.scores, self.labels = boxes, scores, labels


TINY = (
    "zeroshot.size=96",
    "zeroshot.radius=1",
    "zeroshot.proposals=4",
    "zeroshot.classes=[dog,cat,car]",
    "zeroshot.masks=ellipse",
    "zeroshot.describe_every=2",
)


def tiny_config(*overrides, recipe="zeroshot_boxes"):
    return load_config(Config, recipe, [*TINY, *overrides])


def tiny_parts(*overrides, recipe="zeroshot_boxes", model=None):
    return assemble(tiny_config(*overrides, recipe=recipe), None, model)


def tiny_zeroshot(*overrides, boxes=None, **options):
    """A VideoSegmenter."""
    parts = tiny_parts(*overrides, **options)
    encoder = QueryEncoder(parts.loaded, parts.no_match)
    return VideoSegmenter(encoder, boxes or Squares())


class ColourModel(ImageTextModel):
    """Stands for an image-text model: its images are the colours in their middle, and its texts
    the colours that they name; other words say nothing."""

    def __init__(self, side=16):
        nn.Module.__init__(self)
        self.side = side
        self.anchor = nn.Parameter(torch.zeros(()))

    @property
    def width(self):
        return len(COLOURS) + 1

    def encode_images(self, images):
        middle = images[:, :, self.side // 4 : -self.side // 4, self.side // 4 : -self.side // 4]
        shares = colour_shares(middle, torch.ones(middle.shape[0], *middle.shape[2:]))
        return nn.functional.normalize(nn.functional.pad(shares, (0, 1), value=0.1), dim=-1)

    def encode_texts(self, texts):
        rows = torch.zeros(len(texts), self.width)
        rows[:, -1] = 0.1
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().strip(".").split():
                if word in COLOUR_WORDS:
                    row[COLOURS.index(COLOUR_WORDS[word])] = 1
        return nn.functional.normalize(rows, dim=-1)


def with_config(parts, **changes):
    """The same with another configuration of the zero-shot part."""
    config = parts.loaded.config
    own = replace(config.zeroshot, **changes)
    return replace(parts, loaded=replace(parts.loaded, config=replace(config, zeroshot=own)))


OWN_WORDS = {"blick": RED, "dax": BLUE, "wug": GREEN}  # which no model has seen


def write_corpus(root, videos=4, frames=3, split="train", seed=0):
    """Adds videos of coloured squares at random places to a data set in a folder of the user's,
    with one sentence each in words of the user's own, masks in every frame, and root/boxes.h5."""
    rng = np.random.default_rng(seed)
    rows = []
    with write_proposals(root / "boxes.h5", detector="squares", classes=CLASSES) as store:
        for number in range(videos):
            name = f"{split}{number}"
            lefts = rng.permutation([4, 36, 68]).tolist()
            squares = [
                (colour, kind, left, int(rng.integers(2, 26)), int(rng.integers(12, 20)), 0)
                for (colour, kind, *_), left in zip(SQUARES, lefts, strict=True)
            ]
            shown = draw(frames, squares)
            _write_video(root, name, shown)
            found = Squares(squares).detect(shown)
            store.add(
                name,
                [one.boxes for one in found],
                [one.scores for one in found],
                [one.labels for one in found],
                frame_size=SIZE,
                identity=identity_of(root / "videos" / name),
            )
            rows += [f"{name},{i},the {word},{split}" for i, word in enumerate(OWN_WORDS)]
    with (root / "sentences.csv").open("a") as file:
        if not file.tell():
            print("video_id,instance_id,query,split", file=file)
        print("\n".join(rows), file=file)
    return root


def _write_video(root, name, shown):
    (root / "videos" / name).mkdir(parents=True)
    for number, frame in enumerate(shown):
        Image.fromarray(frame).save(root / f"videos/{name}/{number:05d}.png")
        for instance, colour in enumerate(OWN_WORDS.values()):
            path = root / f"masks/{name}/{instance}/{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((frame == colour).all(-1).astype(np.uint8) * 255).save(path)
