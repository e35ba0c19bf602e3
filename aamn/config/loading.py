"""Reading of recipes: YAML files, their bases, and single values, strict about what is known.

A recipe is a short YAML file that may name another one as its `base:`; what it says itself
overrides the base, and `--set a.b=c` overrides both. Keys are strict: an unknown one is an error
that names the file and the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aamn.config.recipes import find_recipe
from proposals.errors import InputError

Schema = TypeVar("Schema")


def _read(path: Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases, the farthest base first."""
    if path in seen:
        raise InputError(f"{path}: its `base:` leads back to itself")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise InputError(f"no config file at {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: wanted a mapping of keys, got {type(content).__name__}")
    base = content.pop("base", None)
    below = _read((path.parent / base).resolve(), (*seen, path)) if base else []
    return [*below, (path, content)]


def recipe_files(path: Path) -> list[Path]:
    """The file of a recipe and those of its bases, the farthest first."""
    return [file for file, _ in _read(path.resolve())]


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
    tree = OmegaConf.structured(schema if start is None else start)
    layers = _read(find_recipe(path).resolve()) if path else []
    sources: list[tuple[str, Any]] = [(str(file), content) for file, content in layers]
    for override in overrides:
        if "=" not in override:
            raise InputError(f"--set {override}: wanted key=value, such as train.batch=4")
        try:
            quoted = override + "''" * override.endswith("=")  # nothing is the empty string
            sources.append((f"--set {override}", OmegaConf.from_dotlist([quoted])))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise InputError(f"--set {override}: {_said(error)}") from None
    for source, content in sources:
        try:
            tree = OmegaConf.merge(tree, content)
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {_said(error)}") from None
    return cast(Schema, OmegaConf.to_object(tree))


def to_dict(config: Any) -> dict[str, Any]:
    """A resolved configuration as plain Python values (for YAML and checkpoints)."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config)))


def from_dict(schema: type[Schema], values: dict[str, Any]) -> Schema:
    """The inverse of `to_dict`, strict about unknown keys.

    Raises:
        InputError: when the values were written by another version of the schema.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), values)
        return cast(Schema, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise InputError(
            f"the stored configuration does not fit this version: {_said(error)}"
        ) from None


def _said(error: Exception) -> str:
    """The error's first line, after the key that it is about."""
    key = getattr(error, "full_key", None)
    return (f"{key}: " if key else "") + str(error).splitlines()[0]
