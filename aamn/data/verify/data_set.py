"""Which checks a data set gets, by its layout."""

from __future__ import annotations

from pathlib import Path

from aamn.config.schema import DataConfig
from aamn.data.datasets.registry import open_all
from aamn.data.verify.a2d import verify_a2d
from aamn.data.verify.checks import Verification, verify_sources
from proposals.errors import InputError

PUBLISHED = {"jhmdb": {"videos": 928, "sentences": 928}}


def verify_data_set(data: DataConfig, deep: bool) -> Verification:
    """What is wrong with a data set; `deep` decodes every frame and mask.

    Raises:
        InputError: no folder there, or what its reader finds wrong with it.
    """
    root = Path(data.root)
    if not root.is_dir():
        raise InputError(f"no folder at {root}")
    if data.kind == "a2d":
        return verify_a2d(root, deep)
    return verify_sources(open_all(data), deep, root, PUBLISHED.get(data.kind, {}))
