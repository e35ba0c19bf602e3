"""The table of what the zero-shot system costs, with small stand-ins for its parts."""

import pytest
import torch
from tiny_zeroshot import TINY, ColourModel

from aamn.experiments import zeroshot_costs
from aamn.experiments.benchmark import BenchmarkOptions
from aamn.experiments.growth import Measured
from aamn.models.encoded import ClipBatch
from aamn.structures import Geometry
from proposals.errors import InputError


class Counted(ColourModel):
    seen = 0

    def encode_images(self, images):
        type(self).seen += len(images)
        return super().encode_images(images)


def test_a_row_a_number_of_described_frames(monkeypatch, capsys):
    """Of clips of 3 frames, describing every one costs three times the key frame's crops."""
    seen = []

    def measured(loaded, job):
        Counted.seen = 0
        boxes = torch.tensor([[[[4.0, 4, 20, 20]]]]).expand(1, 3, 4, 4)
        segmenter = loaded.segmenter
        clip = ClipBatch.of(
            {"rgb": torch.rand(3, 3, 96, 96), "flow": torch.zeros(3, 2, 96, 96)},
            boxes,
            torch.ones(1, 3, 4, dtype=torch.bool),
            [Geometry.fit((48, 96), (96, 96))],
            torch.device("cpu"),
            torch.ones(1, 3, 4),
            torch.zeros(1, 3, 4, dtype=torch.long),
        )
        with torch.inference_mode():
            segmenter.encode_tubes(clip, segmenter.encode_frames(clip))
        seen.append(Counted.seen)
        return 1.0 / len(seen), 0.001

    monkeypatch.setattr(zeroshot_costs, "untrained_image_text", Counted)
    monkeypatch.setattr(zeroshot_costs, "measure_index", measured)
    monkeypatch.setattr(zeroshot_costs, "ROUNDS", 1)
    options = BenchmarkOptions(
        overrides=(*TINY[:3], "zeroshot.radius=1"), frames=4, width=48, height=32
    )
    zeroshot_costs.print_zeroshot_costs(options)
    every_frame, second, key, _ = seen[-4:]
    assert every_frame == 3 * key == 3 * second == 3 * 4 * 2, "two views of four boxes"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[2:]] == ["1", "2", "4", "8"]


def test_the_table_by_hand():
    found = {1: Measured([0.4, 0.2, 0.3], [0.001]), 4: Measured([0.15], [0.002])}
    lines = zeroshot_costs._table(BenchmarkOptions(frames=9), found).splitlines()
    assert lines[2].split()[-3:] == ["0.3000", "1.000", "1.00"]
    assert lines[3].split()[-3:] == ["0.1500", "0.500", "2.00"]


@pytest.mark.parametrize("recipe", ["aamn_demo", "zeroshot_attributes"])
def test_another_recipe_is_refused(recipe):
    with pytest.raises(InputError, match="--zeroshot: wanted the recipe zeroshot"):
        zeroshot_costs.print_zeroshot_costs(BenchmarkOptions(config=recipe))
