"""Every knob of stage two: type, default, unit and where the paper fixes it.

A module gets its own part of the tree, never the whole; loading.py reads recipes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from aamn.config.baselines import ACGAConfig, CSTMConfig, GavrilyukConfig, Streams
from aamn.config.zeroshot import ZeroShotConfig
from proposals.ranges import (
    Batch,
    Cells,
    Channels,
    Count,
    CountOrNone,
    NotNegative,
    Pixels,
    Positive,
    Processes,
    Range,
    Seed,
    Share,
    ShareBelowOne,
    Strides,
    Widths,
)

Network = Literal[
    "small",
    "vgg16",
    "resnet50",
    "resnet101",
    # with a feature pyramid, as detectors have them
    "resnet50_fpn",
    "resnet50_fpn_gn",
    "resnet101_fpn",
    "mobilenet_fpn",
    "mobilenet_fpn_gn",
]
System = Literal["aamn", "most_confident", "gavrilyuk", "acga", "cstm", "zeroshot", "adapted"]
Shown = Literal["clips", "key_frames", "tubes"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Linking = Literal["chain", "anchor"]  # from frame to frame; every frame with the key frame

# the parts that are one system's own
SYSTEM_PARTS = ("aamn", "gavrilyuk", "acga", "cstm", "zeroshot")
# the systems that choose among proposals
CHOOSE_PROPOSALS = ("aamn", "most_confident", "zeroshot", "adapted")
# What is fixed once a system is trained: a checkpoint is asked as it is.
ONLY_TRAINING = (
    *("name", "seed", "augment", "train", "words.max_words", "words.trainable"),
    *("aamn.margin", "aamn.mask_loss_weight", "aamn.match_iou"),
    *(f"aamn.backbone.{key}" for key in ("weights", "flow_weights", "dropout")),
    *("aamn.backbone.frozen_stages", "aamn.backbone.flow_frozen_stages"),
    *(f"{part}.foreground_weight" for part in SYSTEM_PARTS),
    *(f"{part}.i3d.{key}" for part in SYSTEM_PARTS for key in ("rgb_weights", "flow_weights")),
    *("cstm.coarse_weight", "cstm.spatial_weights"),
)


@dataclass
class DataConfig:
    """Where the data lie."""

    kind: Literal["a2d", "jhmdb", "refvos", "folder"] = "a2d"  # the reader
    root: str = ""  # the data set's root folder
    proposals: str = ""  # the HDF5 file that `aamn extract` wrote
    flow: str = ""  # the HDF5 file that `aamn flow` wrote; "" computes flow on the fly
    train_split: str = "train"
    test_split: str = "test"
    # share of the training videos kept apart, as the split validation
    validation_share: ShareBelowOne = 0.0
    validation_split: str = ""  # of train.evaluate_every; "": validation if there is one, else test
    workers: Processes = 2  # decoding processes beside the training process


@dataclass
class WordsConfig:
    """The sentence's words (Sec. III-B, IV-B)."""

    vectors: str = ""  # GloVe text or word2vec binary; "" trains the vectors from scratch
    dimension: Channels = 300  # C_e
    max_words: Annotated[int, Range(1, 1000)] = 20  # T of the paper: longer sentences are cut
    trainable: bool = True  # fine-tune the vectors; always so without a file
    # read gensim's .kv files too: pickles, which run what code their maker put into them. A
    # checkpoint cannot say so, only a recipe or --set
    allow_pickle: bool = False


@dataclass
class AugmentConfig:
    """Random changes of a training sample; all off in the paper's recipe."""

    flip: Share = 0.0  # probability of a mirror image; also swaps left and right in sentences
    colour: Share = 0.0  # strength of brightness, contrast and saturation changes, 0..1
    scale: ShareBelowOne = 0.0  # largest relative shrinking of the frame inside the square, 0..1
    sentences: CountOrNone = 0  # of a sample, drawn anew each time; 0: all


@dataclass
class FlowConfig:
    """Optical flow (Sec. III-A): how it is computed and how finely it is stored."""

    method: Literal["dis", "farneback", "raft"] = "dis"
    preset: Literal["ultrafast", "fast", "medium"] = "medium"  # of dis
    weights: str = ""  # of raft: small | large (torchvision's, downloaded) | a .pt file of either
    # pixels of the stored grid; 0: the video's own size
    longest_side: Annotated[int, Range(0, 8192)] = 256


@dataclass
class BackboneConfig:
    """A CNN and the two fully connected layers behind its RoI features (Sec. III-A)."""

    name: Network = "vgg16"
    flow_name: Literal["", Network] = ""  # the flow stream's, where it is another
    weights: str = ""  # "" random | "imagenet" | a .pt file (torchvision's or our detector's keys)
    flow_weights: str = ""  # the same for the flow stream
    widths: Widths = (24, 48, 96, 128)  # channels of `small`'s stages, each halving size
    strides: Strides = (2, 2, 2, 1)  # of `small`'s stages; their product is the stride
    flow_range: Positive = 8.0  # network pixels of flow that count as one unit of brightness
    roi_size: Cells = 7  # cells a side of the RoIAlign before FC6
    # samples a side of each cell; 0: as many as the region's size asks for
    roi_samples: Annotated[int, Range(0, 64)] = 0
    fc: Channels = 4096  # C_v: FC6 and FC7
    dropout: ShareBelowOne = 0.5  # after FC6 and FC7, as in VGG-16
    frozen_stages: CountOrNone = 0  # leading stages of the RGB stream that do not learn
    flow_frozen_stages: CountOrNone = 0  # the same for the flow stream


@dataclass
class LanguageConfig:
    """The BiLSTM and its two word attentions, (3)-(5)."""

    hidden: Channels = 512  # C_h of each direction of each layer
    layers: Annotated[int, Range(1, 16)] = 2
    # random: Table IX, at test time; mean: Table IV
    attention: Literal["learned", "random", "mean"] = "learned"
    # What (5) adds up: the words' own vectors or, beyond the paper, their states (3), too, which
    # know the words around them.
    values: Literal["words", "states"] = "words"
    heads: Annotated[int, Range(1, 64)] = (
        4  # of `states`: attentions (4) of each module, whose sums (5) lie side by side
    )
    word_dropout: ShareBelowOne = 0.1  # of `states`: the share of words that training leaves out


@dataclass
class ActorConfig:
    """The actor module (6)."""

    enabled: bool = True
    location: bool = True  # l_k, the 5-d location feature
    # factor on l_k, five numbers among the many of v_k; the paper's 1
    location_gain: NotNegative = 1.0
    features: Streams = "rgb"  # what is v_k here


@dataclass
class ActionConfig:
    """The action module (7)-(9)."""

    enabled: bool = True
    # the contextual LSTM's read-out
    context: Literal["attention", "mean", "none"] = "attention"
    context_hidden: Channels = 512  # C_c
    fusion: Literal["gated", "concat", "none"] = "gated"  # none: where only one feature is left
    features: Streams = "rgb+flow"  # what the module may look at


@dataclass
class RelationConfig:
    """Beyond the paper: the matching head of `matching: relation`."""

    channels: Channels = 256
    layers: Annotated[int, Range(1, 16)] = 2  # of the transformer over the frame's tubes
    heads: Annotated[int, Range(1, 64)] = 4
    dropout: ShareBelowOne = 0.1
    scale: Positive = 10.0  # what the cosine is multiplied by at first


@dataclass
class ObjectiveConfig:
    """What sentences are told apart from (12), and by which loss."""

    # margin: (12); softmax, beyond the paper: the cross-entropy of the clip's tubes, and of the
    # sentences about its actors
    loss: Literal["margin", "softmax"] = "margin"
    # Of margin, where the mismatched sentences of (12) come from when those of the same video are
    # used up: the batch alone, or the whole training split, so that there are always K - 1.
    mismatches: Literal["batch", "training"] = "training"
    # Of softmax: the factor of the cross-entropy over the tubes of all clips of the batch.
    across: NotNegative = 0.0


@dataclass
class MaskHeadConfig:
    """The FCN on the tube's RoI features (Sec. III-D)."""

    features: Literal[Streams, "flow+rgb"] = "rgb+flow"
    channels: Channels = 256
    resolution: Cells = 14  # of the RoIAlign; the mask is twice as fine
    convolutions: Annotated[int, Range(0, 64)] = 3  # 3x3 layers after the 1x1 fusion layer
    # Beyond the paper: an earlier map of the first of `features`, by its stride in pixels, joins at
    # twice the resolution, and the mask is four times as fine as it. 0: none, the paper's head.
    detail_stride: Annotated[int, Range(0, 64)] = 0
    detail_channels: Channels = 64


@dataclass
class AAMNConfig:
    """The actor and action modular network."""

    radius: Annotated[int, Range(0, 1000)] = 4  # L: a clip has 2 * radius + 1 frames (Table III)
    proposals: Annotated[int, Range(1, 1000)] = 6  # K (Tables I, II)
    size: Pixels = 512  # H = W of the network's input, pixels (Sec. IV-B)
    streams: Streams = "rgb+flow"
    linking: Linking = "chain"
    link_features: Streams = "rgb"  # Table V
    link_balance: NotNegative = 1.0  # rho of (1)
    aggregation: Literal["key_plus_context", "average"] = "key_plus_context"  # (2); Table VI
    tube_channels: Channels = 1024  # C_v'
    match_channels: Channels = 512  # common width of (6) and (9); the paper leaves it open
    # joint: the Baseline row of Table IV; relation, beyond the paper: one head over all tubes
    matching: Literal["modules", "joint", "relation"] = "modules"
    # Beyond the paper: what a tube's own pixels say, for `matching: relation`.
    statistics: Literal["", "colour", "motion", "colour+motion"] = ""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    action: ActionConfig = field(default_factory=ActionConfig)
    relation: RelationConfig = field(default_factory=RelationConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    margin: NotNegative = 0.1  # epsilon of (12)
    mask_loss_weight: NotNegative = 5.0  # lambda of (10)
    match_iou: Share = 0.5  # a proposal holds the actor from this IoU on; the paper leaves it open


@dataclass
class OptimiserConfig:
    """Optimiser and schedule (Sec. IV-B)."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 1e-4
    momentum: ShareBelowOne = 0.95
    weight_decay: NotNegative = 5e-4
    iterations: Count = 150_000
    milestones: tuple[Count, ...] = (100_000,)  # lr / 10 at each
    schedule: Literal["step", "cosine"] = "step"
    warmup: CountOrNone = 0  # iterations of linear warm-up
    clip_norm: NotNegative = 0.0  # 0: no gradient clipping


@dataclass
class PhaseConfig:
    """A stretch of the training run with losses of its own (Table VII)."""

    # of the iterations; the shares of all phases add up to 1
    share: Annotated[float, Range(0, 1, above=True)] = 1.0
    # name: factor; none: the joint loss
    losses: dict[str, NotNegative] = field(default_factory=dict)
    freeze: list[str] = field(default_factory=list)  # parts that do not learn meanwhile
    # What an iteration is shown. Beyond the paper: key_frames, without the rest of their clips,
    # teach masks; tubes, described once by streams that have learned, teach matching.
    shown: Shown = "clips"
    batch: CountOrNone = 0  # samples an iteration, of each process; 0: as train.batch says


@dataclass
class TrainConfig:
    """The training run."""

    batch: Batch = 1  # samples (clips with all their sentences) an iteration, of each process
    start: str = ""  # a checkpoint with whose weights the run begins; none: as the backbones say
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    # Lightning Fabric's names; auto is bf16-mixed where the device computes in bfloat16 by itself,
    # else 32-true
    precision: Precision = "auto"
    checkpoint_every: Count = 1000  # iterations
    log_every: Count = 20  # iterations
    evaluate_every: CountOrNone = 0  # iterations; 0: only at the end
    freeze: tuple[str, ...] = ()  # parts that do not learn, such as "mask_head", "streams.flow"
    phases: list[PhaseConfig] = field(default_factory=list)  # one after another; none: joint


@dataclass
class Config:
    """A whole run."""

    name: str = "aamn"
    system: System = "aamn"
    seed: Seed = 0
    data: DataConfig = field(default_factory=DataConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    aamn: AAMNConfig = field(default_factory=AAMNConfig)
    gavrilyuk: GavrilyukConfig = field(default_factory=GavrilyukConfig)
    acga: ACGAConfig = field(default_factory=ACGAConfig)
    cstm: CSTMConfig = field(default_factory=CSTMConfig)
    zeroshot: ZeroShotConfig = field(default_factory=ZeroShotConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def own_parts(self) -> tuple[str, ...]:
        """The parts of the configuration that are the system's own."""
        several = {"most_confident": ("aamn",), "adapted": ("zeroshot", "aamn")}
        return several.get(self.system, (self.system,))

    @property
    def idle_parts(self) -> tuple[str, ...]:
        """The parts of other systems, which nobody reads."""
        return tuple(part for part in SYSTEM_PARTS if part not in self.own_parts)
