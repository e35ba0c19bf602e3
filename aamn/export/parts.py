"""What is exported: the parts of a detector and a segmenter, each with tensors in and tensors out.

What has no weights stays outside and is the library's own code in both cases: resizing, ranking a
frame's boxes, linking (1), aggregation (2), pasting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from aamn.models.aamn import AAMN
from aamn.models.language import Language, StateLanguage, WordStates
from aamn.models.matching import Context
from aamn.models.statistics import GRID, TubePixels
from aamn.models.visual import DescribedTubes
from aamn.structures import UNKNOWN_NUMBER
from proposals.inference_form import with_part
from proposals.torchvision_rcnn import TorchvisionRCNN

DETECTOR_TRUNK, DETECTOR_HEADS = "detector_trunk", "detector_heads"
TUBES, MASKS, SENTENCES = "tubes", "masks", "sentences"
CONTEXT = ("attention", "members")  # outputs of TUBES where a head looks at other tubes
FRAME = (240, 320)  # size of the frame by whose example a detector is traced
FEW = 2  # images, clips and sentences of an example: 1 would be taken for a constant

Axes = dict[int, str]  # dimension -> the name of what it counts


@dataclass(frozen=True)
class Part:
    """A network with tensors in and tensors out: examples of its inputs by name, the names of its
    outputs, and which dimensions vary."""

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    axes: dict[str, Axes] = field(default_factory=dict)


def stream_name(name: str) -> str:
    """The part that makes a stream's maps."""
    return f"stream_{name}"


def regions_name(name: str) -> str:
    """The part that describes regions of a stream's maps."""
    return f"regions_{name}"


def map_names(stream: str, count: int) -> tuple[str, ...]:
    """The names of a stream's maps, the finest first."""
    return tuple(f"{stream}_map{number}" for number in range(count))


def _counted(what: str, names: Iterable[str]) -> dict[str, Axes]:
    """Tensors of these names, whose first dimension counts something."""
    return {name: {0: what} for name in names}


class _Stream(nn.Module):
    """Images (N, C, S, S) -> maps."""

    def __init__(self, segmenter: AAMN, name: str) -> None:
        super().__init__()
        self.stream = segmenter.streams[name]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.stream(images)


class _Regions(nn.Module):
    """A stream's maps and ROIs (R, 5) -> features (R, C_v)."""

    def __init__(self, segmenter: AAMN, name: str) -> None:
        super().__init__()
        self.segmenter, self.name = segmenter, name

    def forward(self, *inputs: Tensor) -> Tensor:
        *maps, rois = inputs
        return self.segmenter.region_features(self.name, maps, rois)


class _Masks(nn.Module):
    """The maps of the streams that masks come from, and ROIs (R, 5) -> logits (R, g, g)."""

    def __init__(self, segmenter: AAMN, counts: dict[str, int]) -> None:
        super().__init__()
        self.segmenter, self.counts = segmenter, counts

    def forward(self, *inputs: Tensor) -> Tensor:
        rest, maps = list(inputs), {}
        for name, count in self.counts.items():
            maps[name], rest = tuple(rest[:count]), rest[count:]
        return self.segmenter.roi_mask_logits(maps, rest[0])


class _Tubes(nn.Module):
    """Described tubes -> each head's vectors (B, K, D), and the context in them, if any."""

    def __init__(self, segmenter: AAMN) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.streams, self.statistics = tuple(segmenter.described), tuple(segmenter.statistics)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = iter(inputs)
        aggregated = {name: next(given) for name in self.streams}
        numbers = {name: next(given) for name in self.statistics}
        whole, location, boxes, valid = given
        tubes = DescribedTubes(aggregated, whole, location, boxes, valid, numbers)
        sides = self.segmenter.embed_tubes(tubes)
        vectors = tuple(side.vectors for side in sides.values())
        contexts = [side.context for side in sides.values() if side.context]
        return vectors + tuple(part for one in contexts for part in _context(one))


def _context(context: Context) -> tuple[Tensor, Tensor]:
    return context.attention, context.members


class _PaddedStates(nn.Module):
    """Word states (3) without packed sequences, of which ONNX makes other numbers: each layer as
    two of one direction, the second of which reads the words of each sentence backwards."""

    def __init__(self, states: WordStates) -> None:
        super().__init__()
        layers = [cast(nn.LSTM, layer) for layer in states.layers]
        self.forwards = nn.ModuleList(_one_way(layer, "") for layer in layers)
        self.backwards = nn.ModuleList(_one_way(layer, "_reverse") for layer in layers)
        self.channels = states.channels

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(words.shape[1]) + torch.zeros_like(lengths)[:, None]
        turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
        inside = (place < lengths[:, None])[..., None].to(words.dtype)
        states = []
        for onwards, back in zip(self.forwards, self.backwards, strict=True):
            own = onwards(words)[0]
            other = _at(back(_at(words, turned))[0], turned)
            words = torch.cat([own, other], -1) * inside
            states.append(words)
        return torch.cat(states, -1)


def _at(values: Tensor, places: Tensor) -> Tensor:
    """values (Q, L, C) at places (Q, L) of the words."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def _one_way(layer: nn.LSTM, suffix: str) -> nn.LSTM:
    """One direction of a layer; its weights are those of the names with a suffix."""
    found = nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True)
    own = layer.state_dict()
    found.load_state_dict({name: own[name + suffix] for name in found.state_dict()})
    return found


def _without_packing(language: Language | StateLanguage) -> Language | StateLanguage:
    """The same language side, where it has word states with padded ones."""
    for path, part in language.named_modules():
        if isinstance(part, WordStates):
            return with_part(language, path, lambda part: _PaddedStates(cast(WordStates, part)))
    return language


class _Sentences(nn.Module):
    """Word ids (Q, L) and lengths (Q,) -> each head's vectors (Q, D), bias (Q,), the same for
    all, and word attention (Q, L)."""

    def __init__(self, segmenter: AAMN) -> None:
        super().__init__()
        self.language, self.heads = _without_packing(segmenter.language), segmenter.heads

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        encoded = self.language.encode(ids, lengths, mask)
        found: list[Tensor] = []
        for name, head in self.heads.items():
            vectors = head.matching.queries(encoded.vectors[name])
            bias = head.matching.bias.expand(ids.shape[0])  # a constant output loses its name
            found += [vectors, bias, encoded.attention[name]]
        return tuple(found)


class _DetectorTrunk(nn.Module):
    """Prepared images (N, 3, h, w) -> the backbone's maps."""

    def __init__(self, network: TorchvisionRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.features(images).values())


class _DetectorHeads(nn.Module):
    """One prepared image (1, 3, h, w), of which only the size counts, the height and width of the
    frame in it (2,) and its maps -> boxes (n, C, 4) in its pixels and scores (n, C)."""

    def __init__(self, network: TorchvisionRCNN, levels: Sequence[str]) -> None:
        super().__init__()
        self.network, self.levels = network, tuple(levels)

    def forward(self, image: Tensor, content: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        height, width = content.unbind()
        features = dict(zip(self.levels, maps, strict=True))
        images = ImageList(image, [(height, width)])
        return self.network.regions(images, features)[0]


@torch.no_grad()
def segmenter_parts(segmenter: AAMN) -> list[Part]:
    """The streams, their regions, the tubes' and the sentences' side of the score, the masks."""
    h, w = segmenter.input_spec.network_size
    rois = _example_rois(h, w)
    channels = {"rgb": 3, "flow": 2}
    images = {name: torch.rand(FEW, channels[name], h, w) for name in segmenter.streams}
    maps = {name: segmenter.stream_maps(name, own) for name, own in images.items()}
    named = {name: dict(zip(map_names(name, len(v)), v, strict=True)) for name, v in maps.items()}
    parts = [_stream(segmenter, name, images[name], named[name]) for name in segmenter.streams]
    for name in segmenter.described:
        inputs = {**named[name], "rois": rois}
        axes = _counted("frames", named[name]) | _counted("regions", ("rois", "features"))
        network = _Regions(segmenter, name)
        parts.append(Part(regions_name(name), network, inputs, ("features",), axes))
    return [*parts, _masks(segmenter, named, rois), _tubes(segmenter), _sentences(segmenter)]


def _example_rois(h: int, w: int) -> Tensor:
    """Regions of all sizes, so that every level of a pyramid has one."""
    sides = [min(h, w) / 2**n for n in range(5)]
    return torch.tensor([[n % FEW, 0.0, 0.0, side, side] for n, side in enumerate(sides)])


def _stream(segmenter: AAMN, name: str, images: Tensor, maps: dict[str, Tensor]) -> Part:
    axes = _counted("frames", ("images", *maps))
    network = _Stream(segmenter, name)
    return Part(stream_name(name), network, {"images": images}, tuple(maps), axes)


def _masks(segmenter: AAMN, maps: dict[str, dict[str, Tensor]], rois: Tensor) -> Part:
    inputs = {key: value for name in segmenter.mask_sources for key, value in maps[name].items()}
    axes = _counted("frames", inputs) | _counted("regions", ("rois", "logits"))
    counts = {name: len(maps[name]) for name in segmenter.mask_sources}
    return Part(MASKS, _Masks(segmenter, counts), {**inputs, "rois": rois}, ("logits",), axes)


def _tubes(segmenter: AAMN) -> Part:
    tubes = _example_tubes(segmenter)
    inputs = tube_inputs(tubes)
    sides = segmenter.embed_tubes(tubes)
    outputs = tuple(f"vectors_{name}" for name in sides)
    outputs += CONTEXT * any(side.context for side in sides.values())
    axes = _counted("clips", (*inputs, *outputs))
    return Part(TUBES, _Tubes(segmenter), inputs, outputs, axes)


def tube_inputs(tubes: DescribedTubes) -> dict[str, Tensor]:
    """The inputs of TUBES by name."""
    inputs = {**_prefixed("aggregated", tubes.aggregated), **_prefixed("numbers", tubes.numbers)}
    return inputs | {name: getattr(tubes, name) for name in ("whole", "location", "boxes", "valid")}


def _prefixed(prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _example_tubes(segmenter: AAMN) -> DescribedTubes:
    """Clips of noise with all their tubes but the last one."""
    k, t = segmenter.input_spec.proposals, len(segmenter.input_spec.offsets)
    channels = segmenter.config.backbone.fc
    boxes = torch.tensor([0.0, 0.0, 40.0, 60.0]) + 9 * torch.rand(FEW, k, 1)
    valid = (torch.arange(k) < max(1, k - 1)).expand(FEW, k)
    pixels = TubePixels(
        torch.rand(FEW, k, 3, GRID, GRID),
        torch.rand(FEW, k, GRID, GRID),
        torch.rand(FEW, k, t, 2, GRID, GRID),
        boxes[:, :, None].expand(-1, -1, t, -1),
        valid[..., None].expand(-1, -1, t),
    )
    return DescribedTubes(
        {name: torch.rand(FEW, k, channels) for name in segmenter.described},
        torch.rand(FEW, channels),
        torch.rand(FEW, k, 5),
        boxes,
        valid,
        {name: part.numbers(pixels) for name, part in segmenter.statistics.items()},
    )


def _sentences(segmenter: AAMN) -> Part:
    """Sentences of different lengths, the shorter one first."""
    ids = torch.tensor([[UNKNOWN_NUMBER, 0, 0], [UNKNOWN_NUMBER] * 3])
    axes: dict[str, Axes] = {"ids": {0: "sentences", 1: "words"}, "lengths": {0: "sentences"}}
    outputs: list[str] = []
    for name in segmenter.heads:
        outputs += [f"vectors_{name}", f"bias_{name}", f"attention_{name}"]
        axes[f"vectors_{name}"] = axes[f"bias_{name}"] = {0: "sentences"}
        axes[f"attention_{name}"] = {0: "sentences", 1: "words"}
    inputs = {"ids": ids, "lengths": torch.tensor([1, 3])}
    return Part(SENTENCES, _Sentences(segmenter), inputs, tuple(outputs), axes)


@torch.no_grad()
def detector_parts(network: TorchvisionRCNN) -> list[Part]:
    """The detector below its heads, and its heads, a frame at a time."""
    frame = torch.randint(0, 255, (3, *FRAME), dtype=torch.uint8)
    images, _ = network.rcnn.transform([frame.float() / 255])
    maps = network.features(images.tensors)
    named = dict(zip(map_names("detector", len(maps)), maps.values(), strict=True))
    image, content = images.tensors, torch.tensor(images.image_sizes[0])
    sides: Axes = {2: "height", 3: "width"}
    some = {key: {0: "frames", **_sides(key)} for key in named}
    trunk = Part(
        DETECTOR_TRUNK,
        _DetectorTrunk(network),
        {"images": image.expand(FEW, -1, -1, -1)},
        tuple(named),
        {"images": {0: "frames", **sides}, **some},
    )
    one: dict[str, Axes] = {"image": sides, **{key: _sides(key) for key in named}}
    one |= {"boxes": {0: "regions"}, "scores": {0: "regions"}}
    heads = Part(
        DETECTOR_HEADS,
        _DetectorHeads(network, [*maps]),
        {"image": image, "content": content, **named},
        ("boxes", "scores"),
        one,
    )
    return [trunk, heads]


def _sides(name: str) -> Axes:
    """Each map has a height and width of its own."""
    return {2: f"{name}_height", 3: f"{name}_width"}
