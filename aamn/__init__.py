"""Text-based video segmentation with actor and action modular networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aamn.version import __version__ as __version__
from proposals.errors import InputError

if TYPE_CHECKING:
    from aamn.predictor import VideoSegmenter, load

__all__ = ["InputError", "VideoSegmenter", "load"]


def __getattr__(name: str) -> Any:
    """What is heavy is imported when it is first wanted."""
    if name not in __all__:
        raise AttributeError(f"module 'aamn' has no attribute {name!r}")
    from aamn import predictor

    return getattr(predictor, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
