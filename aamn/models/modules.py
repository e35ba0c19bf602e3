"""A ModuleDict whose modules are of one type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import ItemsView, ValuesView

Part = TypeVar("Part", bound=nn.Module)


class Modules(nn.ModuleDict, Generic[Part]):
    """torch's ModuleDict, which tells type checkers what its modules are."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> Part: ...

        def items(self) -> ItemsView[str, Part]: ...

        def values(self) -> ValuesView[Part]: ...
