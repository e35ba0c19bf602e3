"""Every knob of the comparison systems: type, default, unit and where its paper fixes it.

The defaults are the papers' own models. ACGA is Wang et al., ICCV 2019; Gavrilyuk et al. is CVPR
2018, in the form that ACGA's supplement counts; CSTM is Hui et al., CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from proposals.ranges import Channels, Length, NotNegative, Pixels, Positive, Range

Streams = Literal["rgb", "flow", "rgb+flow"]
ClipFrames = Annotated[int, Range(1, 1000)]
Words = Annotated[int, Range(1, 100)]  # under a convolution
Stage = Annotated[int, Range(1, 5)]  # of a video encoder
Signed = Annotated[float, Range(-1000, 1000)]


@dataclass
class I3DConfig:
    """Inception-v1 inflated to 3D, the video encoder of all three (ACGA, Sec. 3.1)."""

    rgb_weights: str = ""  # "" random | a .pt file in either public PyTorch port's keys
    flow_weights: str = ""  # the same for the flow stream (2 input channels)
    frozen_until: str = "mixed_4e"  # last layer that does not learn; "": everything learns
    # factor on every layer's channels; smaller only in small presets
    width: Annotated[float, Range(0, 4, above=True)] = 1.0
    # eps of its batch normalisations: TensorFlow's; the authors of ACGA and CSTM released models
    # with PyTorch's default, 1e-5
    norm_eps: Positive = 1e-3
    rgb_range: tuple[Signed, Signed] = (-1.0, 1.0)  # what black and white become at the input
    flow_limit: Positive = 20.0  # flow of this many pixels becomes 1; longer flow is cut


@dataclass
class GavrilyukConfig:
    """Gavrilyuk et al.: filters made from the sentence, slid over deconvolved video features."""

    streams: Streams = "rgb"  # rgb+flow: the mean of both response maps
    size: Pixels = 512  # H = W of the network's input, pixels; a multiple of 16
    frames: ClipFrames = 16  # of a clip; the annotated one is index frames / 2
    text_kernel: Words = 2  # words under the sentence's convolution (ACGA suppl., Table 1)
    channels: tuple[Channels, Channels] = (256, 128)  # of the medium and the large map
    foreground_weight: NotNegative = 1.0  # plain binary cross-entropy
    backbone_cache: str = ""  # folder that keeps the frozen layers' features of each clip; "": none
    i3d: I3DConfig = field(default_factory=I3DConfig)


@dataclass
class ACGAConfig:
    """The asymmetric cross-guided attention network; the ablations are ACGA suppl., Table 2."""

    streams: Streams = "rgb"  # rgb+flow: the mean of both response maps
    size: Pixels = 512  # H = W of the network's input, pixels; a multiple of 16 (Sec. 4.2)
    frames: ClipFrames = 16  # of a clip; the annotated one is index frames / 2 (Sec. 4.2)
    text_encoder: Literal["conv", "lstm"] = "conv"
    text_kernel: Words = 3  # words under the convolution; the Baseline rows' counts say 2
    # F_TA: attention (3), (4), or the mean over the words
    text_guidance: Literal["attention", "mean"] = "attention"
    # F_VA: attention (5)-(8) | attention_cut: without its 8 channels of coordinates, as the
    # authors' released model | none: F_V itself
    vision_guidance: Literal["attention", "attention_cut", "none"] = "attention"
    # of the decoder at the three sizes
    channels: tuple[Channels, Channels, Channels] = (256, 128, 64)
    fusion: Literal["all", "res3", "res3+res1", "res3+res2"] = "all"  # responses fused (12)
    foreground_weight: NotNegative = 1.5  # P of (15)
    backbone_cache: str = ""  # folder that keeps the frozen layers' features of each clip; "": none
    weights: str = ""  # the authors' released checkpoint, in place of I3D's; "": none
    i3d: I3DConfig = field(default_factory=I3DConfig)


@dataclass
class CSTMConfig:
    """Collaborative spatial-temporal modelling; sizes are the authors' released model's."""

    weights: str = ""  # the authors' released checkpoint, in place of the encoders'; "": none
    size: Pixels = 320  # H = W of the network's input, pixels; a multiple of 32
    frames: ClipFrames = 8  # of a clip; the annotated one is index frames / 2
    stride: ClipFrames = 2  # frames of the video from one frame of the clip to the next
    text_channels: Channels = 512  # of the GRU and of CMAM's keys and queries
    channels: Channels = 256  # of the decoder
    spatial: Literal["resnet50", "resnet18"] = "resnet50"  # the latter for small presets
    spatial_weights: str = ""  # "" random | "imagenet" | a .pt file in torchvision's keys
    cmam: Literal["both", "spatial", "temporal"] = "both"  # encoders with CMAM (suppl., Sec. 3.4)
    # stages whose maps LGFS weighs: (), (5,), (5, 4, 3)
    lgfs: Annotated[tuple[Stage, ...], Length(0, 5)] = ()
    foreground_weight: NotNegative = 1.5  # alpha of (2)
    # beta of (3) for the five coarser responses; the finest's is 1
    coarse_weight: NotNegative = 0.1
    # The released model learns all of I3D, feeds frames as they are, in [0, 1], and has PyTorch's
    # eps.
    i3d: I3DConfig = field(
        default_factory=lambda: I3DConfig(frozen_until="", norm_eps=1e-5, rgb_range=(0.0, 1.0))
    )
