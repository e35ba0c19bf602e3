"""The action module (7)-(9): what is it doing, by motion and by what is around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aamn.config.schema import ActionConfig
from aamn.models.language import masked_softmax
from aamn.models.matching import Context, Matching, TubeSide
from aamn.models.visual import TubeFeatures
from aamn.tubes.aggregation import context_order
from proposals.errors import InputError


@dataclass(frozen=True)
class ContextSequence:
    """For each tube the contextual LSTM's input: the whole clip, then the other tubes.

    features (B, K, S, C); mask (B, K, S) bool; members (B, K, S): which tube, -1 the whole clip.
    """

    features: Tensor
    mask: Tensor
    members: Tensor


def context_sequence(tubes: TubeFeatures) -> ContextSequence:
    """v_k^seq of AAMN, Sec. III-C2, for all tubes of all clips at once."""
    order = context_order(tubes.boxes, tubes.valid)  # (B, K, K - 1)
    b, k, others = order.shape
    appearance = tubes.streams["rgb"]
    flat = order.reshape(b, k * others)
    index = flat[..., None].expand(-1, -1, appearance.shape[-1])
    picked = appearance.gather(1, index).view(b, k, others, -1)
    whole = tubes.whole[:, None, None, :].expand(-1, k, 1, -1)
    mask = tubes.valid.gather(1, flat).view(b, k, others)
    return ContextSequence(
        torch.cat([whole, picked], 2),
        torch.cat([mask.new_ones(b, k, 1), mask], 2),
        torch.cat([order.new_full((b, k, 1), -1), order], 2),
    )


class AttentionReadout(nn.Module):
    """y_t = ReLU(W4 h_t + b4), alpha = softmax(W5 y_t + b5), v_k^c = sum alpha_t y_t (7)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.state = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())
        # b5 of (7) cancels in the softmax, so it could never learn.
        self.weight = nn.Linear(hidden, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, K, S, C_c) -> context (B, K, C_c) and attention (B, K, S)."""
        values = self.state(states)
        attention = masked_softmax(self.weight(values)[..., 0].float(), mask)
        return torch.einsum("bks,bksc->bkc", attention.to(values.dtype), values), attention


class MeanReadout(nn.Module):
    """Table IV, w/o Attention: the mean of the LSTM's states."""

    def __init__(self, hidden: int) -> None:
        super().__init__()

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        attention = mask.float() / mask.sum(-1, keepdim=True)
        return torch.einsum("bks,bksc->bkc", attention.to(states.dtype), states), attention


class ContextualLSTM(nn.Module):
    """Relates each tube to the others; all sequences of all clips run as one LSTM call."""

    def __init__(self, channels: int, hidden: int, readout: nn.Module) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.readout = readout
        self.channels = hidden

    def forward(self, tubes: TubeFeatures) -> Context:
        sequence = context_sequence(tubes)
        b, k, s, c = sequence.features.shape
        # Missing tubes are last in reading order, so they cannot disturb earlier states.
        states, _ = self.lstm(sequence.features.reshape(b * k, s, c))
        vectors, attention = self.readout(states.view(b, k, s, -1), sequence.mask)
        return Context(vectors, attention, sequence.members)


class NoContext(nn.Module):
    """Table IV, w/o Contextual LSTM: nothing is added to v_k."""

    channels = 0

    def forward(self, tubes: TubeFeatures) -> None:
        return None


class GatedFusion(nn.Module):
    """sigma * g^a + (1 - sigma) * g^b with sigma = sigmoid(W8 [g^a, g^b] + b8) (8)."""

    def __init__(self, appearance: int, motion: int, width: int) -> None:
        super().__init__()
        self.appearance = nn.Linear(appearance, width)
        self.motion = nn.Linear(motion, width)
        self.gate = nn.Linear(2 * width, width)
        self.channels = width

    def forward(self, appearance: Tensor, motion: Tensor) -> Tensor:
        a, b = self.appearance(appearance), self.motion(motion)
        gate = self.gate(torch.cat([a, b], -1)).sigmoid()
        return gate * a + (1 - gate) * b


class ConcatFusion(nn.Module):
    """Table IV, w/o Gated Fusion: both projections side by side."""

    def __init__(self, appearance: int, motion: int, width: int) -> None:
        super().__init__()
        self.appearance = nn.Linear(appearance, width)
        self.motion = nn.Linear(motion, width)
        self.channels = 2 * width

    def forward(self, appearance: Tensor, motion: Tensor) -> Tensor:
        return torch.cat([self.appearance(appearance), self.motion(motion)], -1)


class AppearanceOnly(nn.Module):
    """Table IV, (Action Module) w/o Optical Flow."""

    def __init__(self, appearance: int, motion: int, width: int) -> None:
        super().__init__()
        self.appearance = nn.Linear(appearance, width)
        self.channels = width

    def forward(self, appearance: Tensor, motion: Tensor | None) -> Tensor:
        return self.appearance(appearance)


class MotionOnly(nn.Module):
    """Table IV, (Action Module) w/o RGB."""

    def __init__(self, appearance: int, motion: int, width: int) -> None:
        super().__init__()
        self.motion = nn.Linear(motion, width)
        self.channels = width

    def forward(self, appearance: Tensor | None, motion: Tensor) -> Tensor:
        return self.motion(motion)


READOUTS: dict[str, type[AttentionReadout | MeanReadout]] = {
    "attention": AttentionReadout,
    "mean": MeanReadout,
}
Fusion = GatedFusion | ConcatFusion | AppearanceOnly | MotionOnly
FUSIONS: dict[tuple[str, str], type[Fusion]] = {
    ("rgb+flow", "gated"): GatedFusion,
    ("rgb+flow", "concat"): ConcatFusion,
    ("rgb", "none"): AppearanceOnly,
    ("flow", "none"): MotionOnly,
}


@dataclass(frozen=True)
class ActionRepresentation:
    """v_k^action (B, K, C) and the context in it, None without the contextual LSTM."""

    features: Tensor
    context: Context | None


class ActionModule(nn.Module):
    """v_k^action from context, appearance and motion, matched with the action-related words."""

    def __init__(self, config: ActionConfig, channels: int, words: int, width: int) -> None:
        super().__init__()
        kind = (config.features, config.fusion)
        if kind not in FUSIONS:
            raise InputError(f"action.features and action.fusion: one of {sorted(FUSIONS)}")
        if config.context != "none" and config.features == "flow":
            raise InputError("action.context: 'none' is needed where action.features is 'flow'")
        self.context: NoContext | ContextualLSTM
        if config.context == "none":
            self.context = NoContext()
        else:
            readout = READOUTS[config.context](config.context_hidden)
            self.context = ContextualLSTM(channels, config.context_hidden, readout)
        self.fusion: Fusion = FUSIONS[kind](channels + self.context.channels, channels, words)
        self.matching = Matching(self.fusion.channels, words, width)

    def represent(self, tubes: TubeFeatures) -> ActionRepresentation:
        """v_k^action (8) of all tubes."""
        context = self.context(tubes)
        appearance = tubes.streams.get("rgb")
        if context is not None and appearance is not None:
            appearance = torch.cat([appearance, context.vectors], -1)
        fused = self.fusion(appearance, tubes.streams.get("flow"))
        return ActionRepresentation(fused, context)

    def forward(self, tubes: TubeFeatures) -> TubeSide:
        """The tube side of the action score."""
        represented = self.represent(tubes)
        return TubeSide(self.matching.tubes(represented.features), represented.context)
