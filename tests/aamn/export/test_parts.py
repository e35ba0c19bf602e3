"""Each part as a graph: the numbers of the network it was traced from, at other sizes, too."""

import pytest
import torch
from tiny_models import random_query, random_sample, tiny_segmenter
from torch.nn.utils.rnn import pad_sequence

from aamn.export.detector import GraphRCNN
from aamn.export.graphs import open_graphs
from aamn.export.onnx_files import described, write_onnx
from aamn.export.parts import detector_parts, segmenter_parts
from aamn.export.segmenter import GraphAAMN
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.inference_form import inference_form

pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra export)")

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
BEYOND = ("matching=relation", "statistics=colour+motion", "language.values=states",
          "mask_head.detail_stride=4")  # fmt: skip
SEGMENTERS = {
    "the paper's": (),
    "beyond the paper": tuple(f"aamn.{option}" for option in BEYOND),
    "a pyramid": ("aamn.backbone.name=mobilenet_fpn_gn", "aamn.size=64",
                  "aamn.backbone.flow_name=small"),
    "one stream": ("aamn.streams=rgb", "aamn.action.enabled=false", "aamn.language.attention=mean",
                   "aamn.mask_head.features=rgb"),
}  # fmt: skip
SMALL = {"widths": (8, 8), "strides": (4, 2), "head": 16, "min_size": 40, "max_size": 60}
DETECTORS = {
    "small": DetectorConfig("small", "", ("a", "b"), proposals=30, **SMALL),
    "small, in squares": DetectorConfig("small", "", ("a", "b"), square=64, proposals=30, **SMALL),
    "a pyramid": DetectorConfig(
        "mobilenet_fpn_gn", "", ("a",), square=64, anchors=(8, 16, 32, 64), head=16, proposals=30
    ),
}


def graphs_of(parts, folder):
    files = {part.name: folder / f"{part.name}.onnx" for part in parts}
    for part in parts:
        write_onnx(part, files[part.name])
    return open_graphs(files, "onnxruntime")


@pytest.fixture(scope="module", params=SEGMENTERS)
def pair(request, tmp_path_factory):
    """A segmenter, and what its graphs make."""
    segmenter = inference_form(tiny_segmenter(*SEGMENTERS[request.param]))
    graphs = graphs_of(segmenter_parts(segmenter), tmp_path_factory.mktemp("graphs"))
    words = segmenter.language.embedding
    return segmenter, GraphAAMN(segmenter.config, words, graphs, "model", "backbone")


def same(found, wanted):
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_no_layer_of_an_exported_segmenter_has_weights(pair):
    exported = pair[1]
    own = [value for key, value in exported.state_dict().items() if "embedding" not in key]
    assert own and all(value.is_meta for value in own)
    assert exported.device == torch.device("cpu") and exported.backbone_hash == "backbone"


@torch.no_grad()
def test_streams_regions_and_masks(pair):
    """Three frames, where two were traced, and seven regions."""
    segmenter, exported = pair
    side = segmenter.config.size
    generator = torch.Generator().manual_seed(1)
    images = {
        name: torch.rand(3, 3 if name == "rgb" else 2, side, side, generator=generator)
        for name in segmenter.streams
    }
    maps, found = segmenter.encode_maps(images), exported.encode_maps(images)
    assert maps.keys() == found.keys()
    for name, wanted in maps.items():
        same(list(found[name]), [one.contiguous() for one in wanted])
    corner = torch.rand(7, 2, generator=generator) * side / 2
    size = 2 + torch.rand(7, 2, generator=generator) * side / 2
    image = torch.arange(7.0)[:, None] % 3
    rois = torch.cat([image, corner, corner + size], 1)
    for name in segmenter.described:
        wanted = segmenter.region_features(name, maps[name], rois)
        same(exported.region_features(name, maps[name], rois), wanted)
    same(exported.roi_mask_logits(maps, rois), segmenter.roi_mask_logits(maps, rois))
    same(exported.roi_mask_logits(maps, rois[:1]), segmenter.roi_mask_logits(maps, rois[:1]))


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(3,), (1, 6, 2, 20)])
def test_sentences_of_any_number_and_length(pair, lengths):
    """One shorter than all that were traced, and one longer."""
    segmenter, exported = pair
    generator = torch.Generator().manual_seed(2)
    queries = [random_query(length, generator) for length in lengths]
    found, wanted = exported.encode_sentences(queries), segmenter.encode_sentences(queries)
    for kind in ("sides", "biases", "attention"):
        same(getattr(found, kind), getattr(wanted, kind))


@torch.no_grad()
def test_clips_and_their_scores_end_to_end(pair):
    """Three clips, one of which has a single box in its key frame."""
    segmenter, exported = pair
    samples = [random_sample(segmenter, seed) for seed in range(3)]
    samples[1].proposals.valid[segmenter.input_spec.key, 1:] = False
    clips, boxes = [s.clip for s in samples], [s.proposals for s in samples]
    queries = [query for sample in samples for query in sample.queries]
    found, wanted = exported.encode(clips, boxes), segmenter.encode(clips, boxes)
    assert torch.equal(found.tubes.members, wanted.tubes.members)
    scores = exported.scores(found.sides, exported.encode_sentences(queries))
    same(scores, segmenter.scores(wanted.sides, segmenter.encode_sentences(queries)))
    for name, side in wanted.sides.items():
        context = found.sides[name].context
        assert (context is None) == (side.context is None)
        if side.context is not None:
            same(context.attention, side.context.attention)
            assert torch.equal(context.members, side.context.members)
    place = torch.tensor([0, 4, 8])
    own = wanted.tubes.boxes[:, 0, 0]
    same(exported.mask_logits(found, place, own), segmenter.mask_logits(wanted, place, own))


@torch.no_grad()
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_at_other_sizes_and_numbers_of_boxes(name, tmp_path):
    """The example was noise of 320 x 240, one frame; these are three of 48 x 90, one of them a
    ramp, of which another number of boxes is left."""
    torch.manual_seed(0)
    network = inference_form(build_detector(DETECTORS[name]).eval())
    exported = GraphRCNN(DETECTORS[name], graphs_of(detector_parts(network), tmp_path))
    frames = torch.randint(0, 255, (3, 3, 90, 48), dtype=torch.uint8)
    ramp = torch.arange(90)[:, None] + torch.arange(48)  # no two places look the same
    frames[1] = torch.stack([ramp, 137 - ramp, ramp // 2])
    pairs = [*zip(exported.predict(frames), network.predict(frames), strict=True)]
    if network.config.square:  # on maps that another network's pass has made
        images = torch.rand(2, 3, 64, 64)
        maps = [value for key, value in network.features(images).items() if key != "pool"]
        both = [one.predict_from(images, maps, (90, 48)) for one in (exported, network)]
        pairs += zip(*both, strict=True)
    for found, wanted in pairs:
        assert len(wanted[0])
        torch.testing.assert_close(found[0], wanted[0], atol=1e-3, rtol=1e-4)  # of 90 pixels
        same(found[1], wanted[1])
        assert torch.equal(found[2], wanted[2])


def test_what_the_record_says_of_a_part(tmp_path):
    part = next(p for p in segmenter_parts(tiny_segmenter()) if p.name == "sentences")
    write_onnx(part, tmp_path / "s.onnx")
    found = described(part, tmp_path / "s.onnx")
    assert found["inputs"] == [
        {"name": "ids", "type": "int64", "shape": ["sentences", "words"]},
        {"name": "lengths", "type": "int64", "shape": ["sentences"]},
    ]
    assert found["outputs"][:3] == [
        {"name": "vectors_actor", "type": "float32", "shape": ["sentences", 10]},
        {"name": "bias_actor", "type": "float32", "shape": ["sentences"]},
        {"name": "attention_actor", "type": "float32", "shape": ["sentences", "words"]},
    ]


def test_the_sentences_graph_runs_by_itself(tmp_path):
    """onnxruntime alone, as another program would: numbers in, and the score is a product."""
    import onnxruntime

    segmenter = tiny_segmenter()
    part = next(p for p in segmenter_parts(segmenter) if p.name == "sentences")
    write_onnx(part, tmp_path / "s.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "s.onnx"))
    words = [torch.tensor([5, 4, 3, 2]), torch.tensor([7])]
    ids = pad_sequence(words, batch_first=True).numpy()
    vectors, bias = session.run(
        ["vectors_actor", "bias_actor"], {"ids": ids, "lengths": torch.tensor([4, 1]).numpy()}
    )
    head = segmenter.heads["actor"].matching
    with torch.no_grad():
        wanted = head.queries(segmenter.language(words).vectors["actor"])
    same(torch.from_numpy(vectors), wanted)
    assert bias.tolist() == pytest.approx([0.37, 0.37])
