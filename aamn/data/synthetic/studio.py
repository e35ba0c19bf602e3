"""What the planning of a video asks of those who give its pixels: drawings, or cut-outs of real
sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from aamn.data.synthetic import casts, sentences
from aamn.data.synthetic.actors import DRAWING, Actor, Figure
from aamn.data.synthetic.casts import Cast, Repertoire
from aamn.data.synthetic.rendering import Backdrop, texture
from aamn.data.synthetic.sentences import Wording


class Studio(Protocol):
    """Who can be shown, in which words, as what, and before which background."""

    @property
    def repertoire(self) -> Repertoire: ...

    @property
    def wording(self) -> Wording: ...

    def figure(self, member: Cast, rng: np.random.Generator) -> Figure:
        """What the member looks like."""

    def backdrop(self, actors: Sequence[Actor]) -> Backdrop | None:
        """What may lie behind these actors; None when nothing may."""


class DrawingStudio:
    """Polygons before a texture."""

    repertoire = casts.DRAWN
    wording = sentences.DRAWN

    def figure(self, member: Cast, rng: np.random.Generator) -> Figure:
        return DRAWING

    def backdrop(self, actors: Sequence[Actor]) -> Backdrop:
        return texture


DRAWINGS = DrawingStudio()
