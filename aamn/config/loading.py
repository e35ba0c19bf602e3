"""Reading of recipes: YAML files, their bases, and single values, strict about what is known.

A recipe is a short YAML file that may name another one as its `base:`; what it says itself
overrides the base, and `--set a.b=c` overrides both. Keys are strict: an unknown one is an error
that names the file and the key.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aamn.config.recipes import find_recipe
from proposals.errors import InputError
from proposals.limits import check_nesting, check_values

log = logging.getLogger("aamn")

Schema = TypeVar("Schema")
RENAMED = {
    "aamn": {"balance": "mask_loss_weight"},
    "data": {"held_out": "validation_share"},
    "acga": {"trunk_cache": "backbone_cache"},
    "gavrilyuk": {"trunk_cache": "backbone_cache"},
}  # part -> key of version 0.1 -> today's


def _read(path: Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases, the farthest base first."""
    if path in seen:
        raise InputError(f"{path}: its `base:` leads back to itself")
    try:
        text = check_nesting(path.read_text(encoding="utf-8"), str(path))
        content = yaml.safe_load(text) or {}
        check_values(content, str(path))
    except FileNotFoundError:
        raise InputError(f"no config file at {path}") from None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: wanted a mapping of keys, got {type(content).__name__}")
    base = content.pop("base", None)
    below = _read((path.parent / base).resolve(), (*seen, path)) if base else []
    return [*below, (path, content)]


def recipe_files(path: Path) -> list[Path]:
    """The file of a recipe and those of its bases, the farthest first."""
    return [file for file, _ in _read(path.resolve())]


def with_new_names(values: Mapping[Any, Any], source: str = "") -> dict[Any, Any]:
    """A copy of the values with today's names of keys; says so where `source` is given."""
    renamed = dict(values)
    for part, names in RENAMED.items():
        if not isinstance(renamed.get(part), dict):
            continue
        content = dict(renamed[part])
        for old in names.keys() & content.keys():
            if source:
                log.warning("%s: %s.%s is now %s.%s", source, part, old, part, names[old])
            content[names[old]] = content.pop(old)
        renamed[part] = content
    return renamed


def load_config(
    schema: type[Schema],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    start: Schema | None = None,
) -> Schema:
    """The typed configuration `schema` with the file's values (its bases' first) and then the
    dot-list `overrides` ("train.batch=4"); `start` gives the values before either, such as those
    a checkpoint was trained with.

    Raises:
        InputError: a file that cannot be read, an unknown key, a value of the wrong type or
            none of the choices; names the file or the override, and the key.
    """
    layers = _read(find_recipe(path).resolve()) if path else []
    sources: list[tuple[str, Any]] = [(str(file), content) for file, content in layers]
    for override in overrides:
        if "=" not in override:
            raise InputError(f"--set {override}: wanted key=value, such as train.batch=4")
        try:
            quoted = override + "''" * override.endswith("=")  # nothing is the empty string
            dotted = OmegaConf.to_container(OmegaConf.from_dotlist([quoted]))
            sources.append((f"--set {override}", dotted))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise InputError(f"--set {override}: {_said(error, override)}") from None
    if start is not None and not sources:
        return deepcopy(start)
    tree = _tree(schema if start is None else start)
    for source, content in sources:
        try:  # unsafe: of the tree, which is ours alone, no copy is made for every value
            tree = OmegaConf.unsafe_merge(tree, with_new_names(content, source))
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {_said(error, source)}") from None
    return cast(Schema, OmegaConf.to_object(tree))


def _tree(start: Any) -> Any:
    """OmegaConf's tree of a schema or of a configuration, which the caller may change."""
    return deepcopy(_defaults(start)) if isinstance(start, type) else OmegaConf.structured(start)


@cache
def _defaults(schema: type) -> Any:
    """A schema's tree; reading all its annotations takes five times as long as a copy."""
    return OmegaConf.structured(schema)


def to_dict(config: Any) -> dict[str, Any]:
    """A resolved configuration as plain Python values (for YAML and checkpoints); a hundred times
    faster than by way of OmegaConf, which has checked the values when they were read."""
    return asdict(config)


def from_dict(schema: type[Schema], values: dict[str, Any]) -> Schema:
    """The inverse of `to_dict`, strict about unknown keys.

    Raises:
        InputError: when the values were written by another version of the schema.
    """
    try:
        merged = OmegaConf.unsafe_merge(_tree(schema), with_new_names(values))
        return cast(Schema, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise InputError(
            f"the stored configuration does not fit this version: {_said(error)}"
        ) from None


def _said(error: Exception, source: str = "") -> str:
    """The error's first line, after the key that it is about where `source` does not name it."""
    key = getattr(error, "full_key", None)
    return (f"{key}: " if key and key not in source else "") + str(error).splitlines()[0]
