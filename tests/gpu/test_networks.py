"""Every network gives the same numbers on both devices, in float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import random_sample, tiny_segmenter
from torchvision.ops import box_iou

from aamn.models.baselines.i3d import build_i3d
from aamn.ops.masks import boxes_of_masks, crop_masks, filled_boxes, paste_binary_masks, paste_masks
from proposals.build import build_detector
from proposals.config import DetectorConfig
from proposals.detector import TorchDetector

PYRAMID = (
    "aamn.backbone.name=resnet50_fpn_gn", "aamn.backbone.flow_name=small", "aamn.size=64",
    "aamn.radius=0",
)  # fmt: skip
FLOW = (
    "aamn.streams=flow", "aamn.link_features=flow", "aamn.mask_head.features=flow",
    "aamn.actor.features=flow", "aamn.action.features=flow", "aamn.action.fusion=none",
    "aamn.action.context=none",
)  # fmt: skip
FORMS = {
    "small": (),
    "detailed masks": ("aamn.mask_head.detail_stride=4",),
    "joint, equal words": ("aamn.matching=joint", "aamn.language.attention=mean"),
    "mean context, anchored": ("aamn.action.context=mean", "aamn.linking=anchor"),
    "flow alone": FLOW,
    "shared pyramid": PYRAMID,
    "resnet50": ("aamn.backbone.name=resnet50", "aamn.backbone.flow_name=small", "aamn.radius=0"),
    "vgg16": ("aamn.backbone.name=vgg16",),
}
LARGE = ("vgg16", "pyramid")  # slow to pretend, and made of the others' parts
I3D = ("i3d.width=0.05", "size=32", "frames=4")
BASELINES = {
    "acga": ("acga", (*I3D, "channels=[4,3,2]", "streams=rgb+flow")),
    "acga, lstm": ("acga", (*I3D, "channels=[4,3,2]", "text_encoder=lstm")),
    "acga, nothing guided": (
        "acga", (*I3D, "channels=[4,3,2]", "text_guidance=mean", "vision_guidance=none"),
    ),
    "gavrilyuk": ("gavrilyuk", (*I3D, "channels=[4,3]", "streams=rgb+flow")),
    "cstm": (
        "cstm",
        ("i3d.width=0.05", "size=32", "frames=4", "text_channels=6", "channels=4",
         "spatial=resnet18", "lgfs=[5]"),
    ),
}  # fmt: skip
SMALL = DetectorConfig(
    name="small", weights="", classes=("a", "b"), min_size=48, max_size=96, widths=(8, 16),
    strides=(4, 2), head=16, proposals=30, score_threshold=0.0,
)  # fmt: skip
DETECTORS = {
    "small": SMALL,
    "in a square": replace(SMALL, square=48),
    "pyramid": replace(
        SMALL, name="resnet50_fpn_gn", min_size=64, square=64, anchors=(8, 16, 32, 64, 128)
    ),
}


def _unless_large(names):
    return [pytest.param(n, marks=pytest.mark.gpu) if n in LARGE else n for n in names]


def equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """To a ten-thousandth; masks, which are cut at one half, in all but one pixel of 200."""
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        if value.dtype == torch.bool and value.dim() > 2:
            assert value.shape == wanted[name].shape and wanted[name].any(), name
            assert (value != wanted[name]).float().mean() <= 0.005, name
        else:
            torch.testing.assert_close(
                value, wanted[name], atol=1e-3, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def of_tracks(tracks) -> dict[str, torch.Tensor]:
    """What users get; on the CPU, or the comparison says so."""
    parts = {
        "masks": [track.masks for track in tracks],
        "boxes": [track.boxes for track in tracks],
        "score": [torch.tensor(track.score) for track in tracks],
    }
    scores = [track.scores for track in tracks if track.scores]
    for name in ("total", "actor", "context_attention") if scores else ():
        parts[name] = [getattr(one, name) for one in scores if getattr(one, name) is not None]
    return {name: torch.stack(values) for name, values in parts.items() if values}


@torch.no_grad()
def all_of_aamn(segmenter, samples) -> dict[str, torch.Tensor]:
    """Everything between frames and masks, brought to the CPU."""
    clips = segmenter.encode([s.clip for s in samples], [s.proposals for s in samples])
    queries = [query for sample in samples for query in sample.queries]
    sentences = segmenter.encode_sentences(queries)
    b, k, t, _ = clips.tubes.boxes.shape
    frames = torch.arange(b * t, device=segmenter.device).view(b, 1, t).expand(b, k, t)
    found = {
        "members": clips.tubes.members,
        "boxes of tubes": clips.tubes.boxes,
        "links": clips.tubes.link_scores,
        "vectors": clips.embedding(0).vectors,
        "sentences": torch.stack([q.vector for q in segmenter.embed_queries(queries)]),
        "logits": segmenter.mask_logits(clips, frames.flatten(), clips.tubes.boxes.flatten(0, 2)),
        **{f"attention of {name}": value for name, value in sentences.attention.items()},
        **{f"scores of {name}": v for name, v in segmenter.scores(clips.sides, sentences).items()},
        **segmenter(samples),
    }
    assert {value.device.type for value in found.values()} == {segmenter.device.type}
    sample = samples[0]
    tracks = segmenter.segment(sample.clip, sample.proposals, sample.queries)
    return {name: value.cpu() for name, value in found.items()} | of_tracks(tracks)


@pytest.mark.parametrize("form", _unless_large(FORMS))
def test_aamn(gpu, form):
    segmenter = tiny_segmenter(*FORMS[form])
    # Four sentences about four boxes: (12) draws all others of the clip, whatever is drawn.
    samples = [
        random_sample(segmenter, s, f"v{s}", (3, 1, 5, 2), size)
        for s, size in ((1, (36, 60)), (2, (50, 40)))
    ]
    wanted = all_of_aamn(segmenter, samples)
    with gpu() as device:
        equal(all_of_aamn(segmenter.to(device), samples), wanted)


@pytest.mark.parametrize("name", BASELINES)
def test_one_stage_systems(gpu, name):
    system, values = BASELINES[name]
    segmenter = tiny_segmenter(f"system={system}", *(f"{system}.{value}" for value in values))
    samples = [random_sample(segmenter, s, f"v{s}") for s in (1, 2)]

    @torch.no_grad()
    def answers():
        losses = {name: value.cpu() for name, value in segmenter(samples).items()}
        return losses | of_tracks(segmenter.segment(samples[0].clip, None, samples[0].queries))

    wanted = answers()
    with gpu() as device:
        segmenter.to(device)
        equal(answers(), wanted)
        if system == "acga":
            shown = segmenter.attention(samples[0].clip, samples[0].queries[0])
            assert shown.words.is_cuda and shown.cells.is_cuda
        if system == "cstm":
            (chosen,) = segmenter.selection(samples[0].clip, samples[0].queries[0])
            assert chosen.spatial.is_cuda


@torch.no_grad()
def test_i3d(gpu):
    torch.manual_seed(0)
    network, clip = build_i3d(3, width=0.1).eval(), torch.rand(1, 3, 8, 64, 64)
    wanted = network(clip)
    with gpu() as device:
        found = network.to(device)(clip.to(device)).cpu()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


def spread(network):
    """Random weights whose scores lie far apart, so that rounding does not change ranks."""
    with torch.no_grad():
        for head in (network.rcnn.rpn.head.cls_logits, network.rcnn.roi_heads.box_predictor):
            getattr(head, "cls_score", head).weight.mul_(100)
    return network.eval()


def share_found(found, wanted, least_iou: float, score: float) -> float:
    """Of one detector's boxes, those that the other has with the same class and nearly the same
    score."""
    assert len(wanted.boxes) > 3
    same = box_iou(*(torch.from_numpy(one.boxes) for one in (wanted, found))).numpy() >= least_iou
    same &= abs(wanted.scores[:, None] - found.scores) <= score
    same &= wanted.labels[:, None] == found.labels
    return float(same.any(1).mean())


NOISE = list(np.random.default_rng(0).integers(0, 255, (3, 40, 70, 3), dtype=np.uint8))
PRECISIONS = [
    ("float32", 0.95, 0.95, 1e-3),
    ("float16", 0.7, 0.7, 0.1),
    ("bfloat16", 0.5, 0.5, 0.2),
]


@pytest.mark.parametrize("name", _unless_large(DETECTORS))
def test_detectors(gpu, name):
    torch.manual_seed(0)
    network = spread(build_detector(DETECTORS[name]))
    wanted = TorchDetector(network).detect(NOISE)
    with gpu() as device:
        network.to(device)
        # Nothing is half as precise on a pretended GPU.
        for precision, share, least_iou, score in PRECISIONS[: 3 if device == "cuda" else 1]:
            detector = TorchDetector(network, precision)
            for one, other in zip(detector.detect(NOISE), wanted, strict=True):
                assert share_found(one, other, least_iou, score) >= share, precision
                assert share_found(other, one, least_iou, score) >= share, precision


def test_arithmetic_of_masks(gpu):
    """The GPU pastes all masks whole, the CPU one by one where the box is."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(7, 2, generator=g) * 30 - 5
    boxes = torch.cat([corner, corner + 2 + torch.rand(7, 2, generator=g) * 25], 1)
    grids, size = torch.rand(7, 14, 14, generator=g), (33, 41)

    def answers(grids, boxes):
        filled = filled_boxes(boxes, size)
        return {
            "pasted": paste_binary_masks(grids, boxes, size),
            "whole": paste_masks(grids, boxes, size),
            "filled": filled,
            "cut": crop_masks(filled, boxes + 1, 14),
            "around": boxes_of_masks(filled),
        }

    wanted = answers(grids, boxes)
    with gpu() as device:
        grids, boxes = grids.to(device), boxes.to(device)
        assert paste_binary_masks(grids[:0], boxes[:0], size).shape == (0, *size)
        found = answers(grids, boxes)
        assert all(value.is_cuda for value in found.values())
        equal({name: value.cpu() for name, value in found.items()}, wanted)
