"""Every knob of stage two: type, default, unit and where the paper fixes it.

A module gets its own part of the tree, never the whole; loading.py reads recipes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aamn.config.baselines import ACGAConfig, CSTMConfig, GavrilyukConfig, Streams

Network = Literal[
    "small",
    "vgg16",
    "resnet50",
    "resnet101",
    # with a feature pyramid, as detectors have them
    "resnet50_fpn",
    "resnet50_fpn_gn",
    "resnet101_fpn",
]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Linking = Literal["chain", "anchor"]  # from frame to frame; every frame with the key frame


@dataclass
class DataConfig:
    """Where the data lie."""

    kind: Literal["a2d", "jhmdb", "refvos", "folder"] = "a2d"  # the reader
    root: str = ""  # the data set's root folder
    proposals: str = ""  # the HDF5 file that `aamn extract` wrote
    flow: str = ""  # the HDF5 file that `aamn flow` wrote; "" computes flow on the fly
    train_split: str = "train"
    test_split: str = "test"
    validation_share: float = (
        0.0  # share of the training videos kept apart, as the split validation
    )
    validation_split: str = ""  # of train.evaluate_every; "": validation if there is one, else test
    workers: int = 2  # decoding processes beside the training process


@dataclass
class WordsConfig:
    """The sentence's words (Sec. III-B, IV-B)."""

    vectors: str = ""  # GloVe text or word2vec binary; "" trains the vectors from scratch
    dimension: int = 300  # C_e
    max_words: int = 20  # T of the paper: longer sentences are cut
    trainable: bool = True  # fine-tune the vectors; always so without a file
    # read gensim's .kv files too: pickles, which run what code their maker put into them. A
    # checkpoint cannot say so, only a recipe or --set
    allow_pickle: bool = False


@dataclass
class AugmentConfig:
    """Random changes of a training sample; all off in the paper's recipe."""

    flip: float = 0.0  # probability of a mirror image; also swaps left and right in sentences
    colour: float = 0.0  # strength of brightness, contrast and saturation changes, 0..1
    scale: float = 0.0  # largest relative shrinking of the frame inside the square, 0..1


@dataclass
class FlowConfig:
    """Optical flow (Sec. III-A): how it is computed and how finely it is stored."""

    method: Literal["dis", "farneback", "raft"] = "dis"
    preset: Literal["ultrafast", "fast", "medium"] = "medium"  # of dis
    weights: str = ""  # of raft: small | large (torchvision's, downloaded) | a .pt file of either
    longest_side: int = 256  # pixels of the stored grid; 0: the video's own size


@dataclass
class BackboneConfig:
    """A CNN and the two fully connected layers behind its RoI features (Sec. III-A)."""

    name: Network = "vgg16"
    flow_name: Literal["", Network] = ""  # the flow stream's, where it is another
    weights: str = ""  # "" random | "imagenet" | a .pt file (torchvision's or our detector's keys)
    flow_weights: str = ""  # the same for the flow stream
    widths: tuple[int, ...] = (24, 48, 96, 128)  # channels of `small`'s stages, each halving size
    strides: tuple[int, ...] = (2, 2, 2, 1)  # of `small`'s stages; their product is the stride
    flow_range: float = 8.0  # network pixels of flow that count as one unit of brightness
    roi_size: int = 7  # cells a side of the RoIAlign before FC6
    roi_samples: int = 0  # samples a side of each cell; 0: as many as the region's size asks for
    fc: int = 4096  # C_v: FC6 and FC7
    dropout: float = 0.5  # after FC6 and FC7, as in VGG-16
    frozen_stages: int = 0  # leading stages of the RGB stream that do not learn
    flow_frozen_stages: int = 0  # the same for the flow stream


@dataclass
class LanguageConfig:
    """The BiLSTM and its two word attentions, (3)-(5)."""

    hidden: int = 512  # C_h of each direction of each layer
    layers: int = 2
    # random: Table IX, at test time; mean: Table IV
    attention: Literal["learned", "random", "mean"] = "learned"


@dataclass
class ActorConfig:
    """The actor module (6)."""

    enabled: bool = True
    location: bool = True  # l_k, the 5-d location feature
    location_gain: float = 1.0  # factor on l_k, five numbers among the many of v_k; the paper's 1
    features: Streams = "rgb"  # what is v_k here


@dataclass
class ActionConfig:
    """The action module (7)-(9)."""

    enabled: bool = True
    # the contextual LSTM's read-out
    context: Literal["attention", "mean", "none"] = "attention"
    context_hidden: int = 512  # C_c
    fusion: Literal["gated", "concat", "none"] = "gated"  # none: where only one feature is left
    features: Streams = "rgb+flow"  # what the module may look at


@dataclass
class MaskHeadConfig:
    """The FCN on the tube's RoI features (Sec. III-D)."""

    features: Literal[Streams, "flow+rgb"] = "rgb+flow"
    channels: int = 256
    resolution: int = 14  # of the RoIAlign; the mask is twice as fine
    convolutions: int = 3  # 3x3 layers after the 1x1 fusion layer
    # Beyond the paper: an earlier map of the first of `features`, by its stride in pixels, joins at
    # twice the resolution, and the mask is four times as fine as it. 0: none, the paper's head.
    detail_stride: int = 0
    detail_channels: int = 64


@dataclass
class AAMNConfig:
    """The actor and action modular network."""

    radius: int = 4  # L: a clip has 2 * radius + 1 frames (Table III)
    proposals: int = 6  # K (Tables I, II)
    size: int = 512  # H = W of the network's input, pixels (Sec. IV-B)
    streams: Streams = "rgb+flow"
    linking: Linking = "chain"
    link_features: Streams = "rgb"  # Table V
    link_balance: float = 1.0  # rho of (1)
    aggregation: Literal["key_plus_context", "average"] = "key_plus_context"  # (2); Table VI
    tube_channels: int = 1024  # C_v'
    match_channels: int = 512  # common width of (6) and (9); the paper leaves it open
    matching: Literal["modules", "joint"] = "modules"  # joint: the Baseline row of Table IV
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    action: ActionConfig = field(default_factory=ActionConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    margin: float = 0.1  # epsilon of (12)
    mask_loss_weight: float = 5.0  # lambda of (10)
    match_iou: float = 0.5  # a proposal holds the actor from this IoU on; the paper leaves it open


@dataclass
class OptimiserConfig:
    """Optimiser and schedule (Sec. IV-B)."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-4
    momentum: float = 0.95
    weight_decay: float = 5e-4
    iterations: int = 150_000
    milestones: tuple[int, ...] = (100_000,)  # lr / 10 at each
    schedule: Literal["step", "cosine"] = "step"
    warmup: int = 0  # iterations of linear warm-up
    clip_norm: float = 0.0  # 0: no gradient clipping


@dataclass
class PhaseConfig:
    """A stretch of the training run with losses of its own (Table VII)."""

    share: float = 1.0  # of the iterations; the shares of all phases add up to 1
    losses: dict[str, float] = field(default_factory=dict)  # name: factor; none: the joint loss
    freeze: list[str] = field(default_factory=list)  # parts that do not learn meanwhile


@dataclass
class TrainConfig:
    """The training run."""

    batch: int = 1  # samples (clips with all their sentences) an iteration, of each process
    start: str = ""  # a checkpoint with whose weights the run begins; none: as the backbones say
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    # Lightning Fabric's names; auto is bf16-mixed where the device computes in bfloat16 by itself,
    # else 32-true
    precision: Precision = "auto"
    checkpoint_every: int = 1000  # iterations
    log_every: int = 20  # iterations
    evaluate_every: int = 0  # iterations; 0: only at the end
    freeze: tuple[str, ...] = ()  # parts that do not learn, such as "mask_head", "streams.flow"
    phases: list[PhaseConfig] = field(default_factory=list)  # one after another; none: joint


@dataclass
class Config:
    """A whole run."""

    name: str = "aamn"
    system: Literal["aamn", "most_confident", "gavrilyuk", "acga", "cstm"] = "aamn"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    aamn: AAMNConfig = field(default_factory=AAMNConfig)
    gavrilyuk: GavrilyukConfig = field(default_factory=GavrilyukConfig)
    acga: ACGAConfig = field(default_factory=ACGAConfig)
    cstm: CSTMConfig = field(default_factory=CSTMConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
