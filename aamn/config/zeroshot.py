"""The knobs of the zero-shot system: pretrained parts, fixed weights, nothing to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from proposals.ranges import MOST, Channels, Count, NotNegative, Pixels, Range, Share

COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)


@dataclass
class PublishedConfig:
    """Where the public weights come from, pinned."""

    # the image-text model on the hub: any with CLIP's or SigLIP's classes
    image_text: str = "google/siglip2-base-patch16-224"
    image_text_revision: str = "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2"
    # of its model.safetensors
    image_text_sha256: str = "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b"
    image_text_width: Channels = 768  # of its vectors, where a learned head is made for them
    image_text_licence: str = "Apache-2.0"
    # a folder with the weights, as --weights names it; "": the caches, or the network
    folder: str = ""
    hub: str = ""  # the hub's address; "": what the client is set to, huggingface.co
    # torchvision's file: its name ends with the first digits of its SHA-256
    detector: str = "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"
    detector_url: str = "https://download.pytorch.org/models/"
    detector_licence: str = "BSD-3-Clause"

    @property
    def licences(self) -> dict[str, str]:
        """What is downloaded -> its licence."""
        return {self.detector: self.detector_licence, self.image_text: self.image_text_licence}


@dataclass
class GainsConfig:
    """What each part of a sentence weighs in the score."""

    image_text: NotNegative = 20.0  # of the cosine, less that of the generic sentences
    classes: NotNegative = 2.0
    colours: NotNegative = 2.5
    place: NotNegative = 0.6
    motion: NotNegative = 0.4
    confidence: NotNegative = 0.3  # of the detector, whatever the sentence says


@dataclass
class ZeroShotConfig:
    """Tubes of a COCO detector, described without any training of ours."""

    radius: Annotated[int, Range(0, 1000)] = 4  # a clip has 2 * radius + 1 frames
    proposals: Annotated[int, Range(1, 1000)] = 8  # K
    size: Pixels = 640  # H = W of what the networks see
    describers: Literal["image_text", "attributes", "image_text+attributes"] = "image_text"
    # rcnn: the detector's own mask head; grabcut: the box's foreground by its colours, for
    # detectors without masks; ellipse: the ellipse in the box
    masks: Literal["rcnn", "grabcut", "ellipse"] = "rcnn"
    classes: tuple[str, ...] = COCO  # of the boxes' labels
    describe_every: Count = 4  # frames of a clip from one described frame to the next
    context: NotNegative = 0.15  # of the box's sides, around the crop
    dimmed: Share = 0.4  # brightness of the background in the second view
    crops: Count = 64  # that go through the image model at once
    link_balance: NotNegative = 1.0  # rho of (1)
    prompts: tuple[str, ...] = (
        "a photo of {}.",
        "a frame of a video with {}.",
        "a cropped photo of {}.",
    )
    # cosine from which a word means the class whose name is near it, of vectors of 50 numbers;
    # longer ones lie farther apart
    likeness: Share = 0.68
    generic: tuple[str, ...] = ("something", "a thing", "the background", "somebody", "an object")
    # a score above it is a match
    absent_threshold: Annotated[float, Range(-MOST, MOST)] = 0.0
    gains: GainsConfig = field(default_factory=GainsConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)

    def __post_init__(self) -> None:
        for key in ("classes", "prompts", "generic"):
            setattr(self, key, tuple(getattr(self, key)))
