"""The one door behind which AAMN and the systems it is compared with stand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aamn.models.encoded import TubeSample
from aamn.structures import Clip, InputSpec, MaskTrack, Proposals, Query, Sample
from proposals.errors import InputError


class Segmenter(nn.Module):
    """Finds what sentences name in a clip and masks it.

    Training, evaluation and full-video runs drive this interface and never learn which system they
    drive; `input_spec` tells the loader what to load.
    """

    input_spec: InputSpec

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Named losses of a batch of samples; "total" is the one to minimise, and entries whose
        name begins with "count/" are numbers for the log."""
        raise NotImplementedError

    def mask_losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The same of masks alone, from samples whose clips are their key frames.

        Raises:
            InputError: the system cannot.
        """
        raise InputError("train.phases: this system learns from clips alone, not from key_frames")

    def matching_losses(self, samples: Sequence[TubeSample]) -> dict[str, Tensor]:
        """The same of matching alone, from tubes that were described before.

        Raises:
            InputError: the system cannot.
        """
        raise InputError("train.phases: this system learns from clips alone; it has no tubes")

    def segment(
        self, clip: Clip, proposals: Proposals | None, queries: Sequence[Query]
    ) -> list[MaskTrack]:
        """One track a query, in the queries' order, over the clip's frames (or over the key frame
        alone where `input_spec.predicts` is "key")."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device
