"""The version of the library, apart from what it holds, so that anything may ask for it."""

__version__ = "0.2.0"
