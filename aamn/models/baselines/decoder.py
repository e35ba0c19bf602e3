"""From coarse maps to response maps: the layers that the one-stage systems share, and ACGA's
multi-resolution decoder (10)-(13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.models.baselines import coordinates
from aamn.models.baselines.coordinates import with_coordinates


class Deconv(nn.Sequential):
    """Four times finer: transposed convolution 8x8, then convolution 3x3 (10)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(channels, out_channels, 8, stride=4, padding=2),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )


class ResponseHead(nn.Sequential):
    """FCN of (11): two 3x3 convolutions with ReLU, one 1x1; (S, n, h, w) -> (S, 1, h, w)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, 1, 1),
        )


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interp of (11), (12): maps (S, C, h, w) bilinearly at another size."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


class LastResponse(nn.Module):
    """No fusion: the largest response is the answer (Table 2, "Res3")."""

    def forward(self, responses: Sequence[Tensor]) -> Tensor:
        return responses[-1]


class ResponseFusion(nn.Module):
    """A 3x3 convolution of the chosen responses, resized to the largest (12)."""

    def __init__(self, members: Sequence[int]) -> None:
        super().__init__()
        self.members = tuple(members)
        self.conv = nn.Conv2d(len(self.members), 1, 3, padding=1)

    def forward(self, responses: Sequence[Tensor]) -> Tensor:
        size = responses[-1].shape[-2:]
        return self.conv(torch.cat([resize(responses[i], size) for i in self.members], 1))


FUSIONS: dict[str, Callable[[], nn.Module]] = {
    "all": lambda: ResponseFusion((0, 1, 2)),
    "res3+res1": lambda: ResponseFusion((0, 2)),
    "res3+res2": lambda: ResponseFusion((1, 2)),
    "res3": LastResponse,
}


class MultiResolutionDecoder(nn.Module):
    """F_VA (S, D_V, h, w) and F_TA (S, D_T, h, w) to R_S, R_M, R_L (S, 1, ., .) of h x w, 4h x 4w
    and 16h x 16w cells; R_L is the fused one."""

    def __init__(self, vision: int, text: int, channels: Sequence[int], fusion: str) -> None:
        super().__init__()
        small, medium, large = channels
        beside = coordinates.CHANNELS + text
        self.to_medium = Deconv(vision, small)
        self.to_large = Deconv(small, medium)
        self.heads = nn.ModuleList(
            ResponseHead(n + beside, hidden)
            for n, hidden in ((vision, small), (small, medium), (medium, large))
        )
        self.fusion = FUSIONS[fusion]()

    def forward(self, vision: Tensor, text: Tensor) -> list[Tensor]:
        medium = self.to_medium(vision)
        large = self.to_large(medium)
        *coarse, last = (
            head(torch.cat([with_coordinates(maps), resize(text, maps.shape[-2:])], 1))
            for head, maps in zip(self.heads, (vision, medium, large), strict=True)
        )
        return [*coarse, self.fusion([*coarse, last])]
