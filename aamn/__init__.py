"""Text-based video segmentation with actor and action modular networks."""

__version__ = "0.1.0"
