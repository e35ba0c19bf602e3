"""`aamn demo`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from aamn.cli.command_line import log, out_option, subcommand
from aamn.cli.synthetic import CUTOUTS
from proposals.errors import InputError

RECIPE = "aamn_demo_plus"
CORPORA = ("drawings", "collage")
SHARE = "0.1"  # of the training videos, for the threshold of absence
SMALL = {  # subcommand -> what makes it quick: to see that everything works, not how well
    "synthetic": ("train_videos=6", "test_videos=3", "missed_videos=0", "max_frames=26"),
    "train-detector": (
        *("widths=[8,8,16,16]", "head=32", "proposals=20"),
        *("finetune.iterations=30", "finetune.batch=2", "finetune.warmup=5"),
    ),
    "train": (
        *("words.dimension=8", "aamn.radius=1", "aamn.size=64", "aamn.tube_channels=16"),
        *("aamn.match_channels=16", "aamn.backbone.widths=[8,8,16,16]", "aamn.backbone.fc=16"),
        *("aamn.language.hidden=8", "aamn.mask_head.channels=8", "aamn.relation.channels=16"),
        *("train.optimiser.iterations=10", "train.batch=2"),
    ),
}

CONTENTS = """
{out}/ holds
  corpus/          the synthetic data set, in A2D Sentences' layout (preview.png shows it)
  detector/        the fine-tuned Faster R-CNN, metrics.json with its recall
  proposals.h5     every frame's boxes
  flow.h5          every frame's optical flow
  aamn/            checkpoint, curves (tensorboard --logdir {out}/aamn)
  metrics.json     every metric and every row behind it
  full_video.json  the same of whole videos; the score below which a sentence has no match
  bundle/          detector and segmenter together: what aamn.load() and --bundle take
  videos/          per video and sentence: masks/, overlay.mp4, sheet.png, attention.png

Try a sentence of your own:
  aamn segment {video} "the dog on the left" --bundle {out}/bundle --out {out}/mine"""


def steps(
    out: Path, small: bool, recipe: str = RECIPE, cutouts: Path | None = None
) -> list[list[str]]:
    """The subcommands of the demo, in order; `recipe` is the segmenter's, `cutouts` the folder of a
    collage's actors."""
    data, detector = str(out / "corpus"), str(out / "detector/detector.pt")
    boxes, flow = str(out / "proposals.h5"), str(out / "flow.h5")
    checkpoint, validation = str(out / "aamn/last.pt"), ["--validation-share", SHARE]
    train, test = str(out / "train.json"), str(out / "test.json")
    starts = (
        f"data.validation_share={SHARE}",
        f"aamn.backbone.weights={detector}",
        f"aamn.backbone.flow_weights={detector}",
    )
    chosen = [
        ["synthetic", *_corpus(cutouts), "--out", data],
        ["manifest", "--data", data, "--split", "train", *validation, "--out", train],
        ["manifest", "--data", data, "--split", "test", *validation, "--out", test],
        [
            *("train-detector", "--config", "detector_demo", "--manifest", train),
            *("--validation", test, "--out", str(out / "detector")),
        ],
        ["extract", "--data", data, "--detector", detector, "--out", boxes],
        ["flow", "--data", data, "--out", flow],
        [
            *("train", "--config", recipe, "--data", data, "--proposals", boxes),
            *("--flow", flow, "--out", str(out / "aamn"), *_set(starts)),
        ],
        [
            *("evaluate", "--checkpoint", checkpoint, "--compare", "most_confident"),
            *("--out", str(out / "metrics.json")),
        ],
        [
            *("segment", "--checkpoint", checkpoint, "--data", data, "--count", "3"),
            *("--proposals", boxes, "--flow", flow, "--out", str(out / "videos")),
        ],
        [
            *("evaluate", "--checkpoint", checkpoint, "--full-video", "--calibrate", "validation"),
            *("--out", str(out / "full_video.json")),
        ],
        [
            *("bundle", "--checkpoint", checkpoint, "--detector", detector),
            *(() if small else ("--metrics", str(out / "full_video.json"))),
            *("--out", str(out / "bundle")),
        ],
    ]
    return [[*words, *_set(SMALL.get(words[0], ()))] if small else words for words in chosen]


def _corpus(cutouts: Path | None) -> list[str]:
    if cutouts is None:
        return ["--config", "synthetic_demo"]
    return ["--config", "collage_demo", "--cutouts", str(cutouts)]


def _set(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


@subcommand("demo", "aamn demo --out runs/demo")
@click.option("--small", is_flag=True, help="a minute: to see that everything works, not how well")
@click.option("--config", "recipe", default=RECIPE, help="the segmenter's; aamn_demo: the paper's")
@click.option(
    "--corpus",
    type=click.Choice(CORPORA),
    default=CORPORA[0],
    help="drawn actors, or with --cutouts real ones before real backgrounds",
)
@click.option(
    "--cutouts", type=CUTOUTS, metavar="DIR", help="of a collage: sequences in DAVIS's layout"
)
@out_option("the demo's folder; default: runs/demo", folder=True, default="runs/demo")
def command(small: bool, recipe: str, corpus: str, cutouts: Path | None, out: Path) -> int:
    """Runs the whole pipeline on a synthetic corpus, without a download: draws the corpus,
    fine-tunes a detector on it, extracts proposals and optical flow, trains AAMN, evaluates it, and
    segments three test videos by their sentences.

    Every step is one of the other subcommands, and is printed. The same command again goes on
    after the last step that was finished.
    """
    from aamn.cli.main import run
    from proposals.files import write_json

    if (corpus == "collage") != (cutouts is not None):
        raise InputError("wanted --corpus collage and --cutouts DIR together, or neither")
    record = out / "steps.json"
    done = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
    for number, words in enumerate(steps(out, small, recipe, cutouts)):
        if number < len(done) and done[number] == words:
            continue
        log.info("\n$ aamn %s", shlex.join(words))
        code = run(words)
        if code:
            return code
        done = [*done[:number], words]
        write_json(record, done)
    video = next((out / "corpus/Release/clips320H").glob("*.mp4"), "clip.mp4")
    print(CONTENTS.format(out=out, video=video))
    return 0
