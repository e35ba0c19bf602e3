"""Do a few sentences of one's own make the zero-shot system better? On the demo's corpus, with its
detector's boxes and without an image-text model (the describer `attributes`): the share of the test
split's sentences that are answered right, before training and after it on so many sentences.

    PYTHONPATH=tests python tests/real/zeroshot_adapted.py --demo runs/demo --out runs/adapted
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aamn.config.loading import load_config
from aamn.config.schema import Config
from aamn.data.datasets.a2d_labels import ACTORS
from aamn.evaluation.metrics import summarise_kinds
from aamn.evaluation.systems import evaluate_system, open_system
from aamn.inference.checkpoint import save_checkpoint, words_of
from aamn.training.loop import train
from aamn.training.run import _built, _dataset

RECIPE = (
    *("zeroshot.describers=attributes", "zeroshot.masks=ellipse", "zeroshot.size=160"),
    *("zeroshot.radius=2", "zeroshot.proposals=6", "zeroshot.describe_every=2"),
    *(f"zeroshot.classes=[{','.join(ACTORS)}]", "words.dimension=64", "data.workers=1"),
    *("train.precision=32-true", "train.checkpoint_every=1000"),
)


def learned(config: Config, sentences: int, out: Path) -> int:
    """Trains on the first key frames of the split that hold so many sentences (0: on none), evenly
    drawn over its videos; how many it has learned from."""
    segmenter, config = _built(config)
    samples = _dataset(
        config, "train", segmenter.input_spec, words_of(segmenter).vocabulary, learning=True
    )
    frames, chosen, count = samples.source.key_frames, [], 0
    order = sorted(range(len(frames)), key=lambda place: place * 7919 % len(frames))
    for place in order:
        if count >= sentences:
            break
        chosen.append(frames[place])
        count += len(frames[place].expressions)
    if not chosen:
        save_checkpoint(out / "last.pt", segmenter, config, 0)
        return 0
    samples.source.key_frames[:] = chosen
    train(config, segmenter, samples, out)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("runs/adapted"))
    parser.add_argument("--sentences", type=int, nargs="+", default=[0, 200, 1000, 100_000])
    parser.add_argument("--iterations", type=int, default=300)
    options = parser.parse_args()
    data = {"root": "corpus", "proposals": "proposals.h5", "flow": "flow.h5"}
    places = [f"data.{key}={options.demo / name}" for key, name in data.items()]
    more = (*places, f"train.optimiser.iterations={options.iterations}")
    config = load_config(Config, "adapted", [*RECIPE, *more])
    rows = {}
    for sentences in options.sentences:
        out = options.out / str(sentences)
        count = learned(config, sentences, out)
        found = evaluate_system(open_system(out / "last.pt")).evaluation.report.rows
        rows[count] = {kind: own["Loc P@0.5"] for kind, own in summarise_kinds(found).items()}
    print(f"{'sentences learned from':<24}" + "".join(f"{kind:>14}" for kind in rows[count]))
    for number, own in rows.items():
        cells = "".join(f"{100 * value:13.1f}%" for value in own.values())
        print(f"{number if number else 'none: zero-shot':<24}{cells}")


if __name__ == "__main__":
    main()
