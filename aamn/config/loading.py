"""Reading of recipes: YAML files, their bases, and single values, strict about what is known.

A recipe is a short YAML file that may name another one as its `base:`; what it says itself
overrides the base, and `--set a.b=c` overrides both. Keys are strict: an unknown one is an error
that names the file and the key.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from aamn.config.recipes import find_recipe
from aamn.config.schema import CHOOSE_PROPOSALS, Config
from aamn.config.yaml_files import read_yaml, refuse_unplain
from proposals.errors import InputError
from proposals.ranges import faults, field_types

log = logging.getLogger("aamn")

Schema = TypeVar("Schema")
RENAMED = {
    "aamn": {"balance": "mask_loss_weight"},
    "data": {"held_out": "validation_share"},
    "acga": {"trunk_cache": "backbone_cache"},
    "gavrilyuk": {"trunk_cache": "backbone_cache"},
}  # part -> key of version 0.1 -> today's
STORED = "the stored configuration does not fit this version"


def _read(path: Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases, the farthest base first."""
    if path in seen:
        raise InputError(f"{path}: its `base:` leads back to itself")
    content = read_yaml(path)
    if "base" not in content:
        return [(path, content)]
    base = content.pop("base")
    if not isinstance(base, str) or not base or "\0" in base:
        raise InputError(f"{path}: base: wanted the name of a file, got {base!r}")
    return [*_read((path.parent / base).resolve(), (*seen, path)), (path, content)]


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


@dataclass(frozen=True)
class _Source:
    """Values laid over those below them, and what to call them in errors."""

    name: str
    values: Mapping[Any, Any]

    def has(self, key: str) -> bool:
        """Whether a value at a dotted key comes from here."""
        found: Any = self.values
        for part in key.split("."):
            if not isinstance(found, Mapping):
                return True  # the whole part is a value of this source
            if part not in found:
                return False
            found = found[part]
        return True


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
        InputError: a file that cannot be read, an unknown key, a value of the wrong type, out of
            its range or none of the choices, an override of a part that the chosen system has
            not; names the file or the override, and the key.
    """
    layers = _read(find_recipe(path).resolve()) if path is not None else []
    sources = [_Source(str(file), with_new_names(values, str(file))) for file, values in layers]
    sources += [_override(text) for text in overrides]
    if start is not None and not sources:
        return deepcopy(start)
    config = _merged(schema if start is None else start, sources)
    _refuse_idle(config, sources[len(layers) :])
    return cast(Schema, config)


def _override(text: str) -> _Source:
    """One value of the dot-list; nothing behind the = is the empty string."""
    source = f"--set {text}"
    key = text.partition("=")[0]
    if "=" not in text or not all(key.split(".")):
        raise InputError(f"{source}: wanted key=value, such as train.batch=4")
    try:
        quoted = text + "''" * text.endswith("=")
        values = cast(dict, OmegaConf.to_container(OmegaConf.from_dotlist([quoted])))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: {_said(error, source)}") from None
    refuse_unplain(source, values)
    return _Source(source, with_new_names(values, source))


def _merged(start: Any, sources: Sequence[_Source]) -> Any:
    """The sources laid over a schema or a configuration, which nothing of it contradicts."""
    tree = _tree(start)
    schema = start if isinstance(start, type) else type(start)
    for source in sources:
        _refuse_valued_parts(schema, source.values, source.name)
        try:  # unsafe: of the tree, which is ours alone, no copy is made for every value
            tree = OmegaConf.unsafe_merge(tree, source.values)
        except ConfigKeyError as error:
            unknown = f"{error.full_key} is no key{_near(schema, str(error.full_key))}"
            raise InputError(f"{source.name}: {unknown}") from None
        except OmegaConfBaseException as error:
            raise InputError(f"{source.name}: {_said(error, source.name)}") from None
    config = OmegaConf.to_object(tree)
    for key, fault in faults(config):
        here = (s.name for s in reversed(sources) if s.has(key.partition("[")[0]))
        name = next(here, "the values it starts from")
        raise InputError(f"{name}: {fault}" if key in name else f"{name}: {key}: {fault}")
    return config


def _refuse_valued_parts(schema: type, values: Mapping[Any, Any], source: str) -> None:
    """Refuses a value where a part of the configuration has keys of its own."""
    for name, kind in field_types(schema).items():
        if name in values and is_dataclass(kind):
            own = values[name]
            if not isinstance(own, Mapping):
                raise InputError(f"{source}: {name}: wanted keys with values, got {own!r}")
            _refuse_valued_parts(cast(type, kind), own, source)


def _refuse_idle(config: Any, overrides: Sequence[_Source]) -> None:
    """Refuses overrides of parts that the configuration says nobody reads."""
    idle: Collection[str] = getattr(config, "idle_parts", ())
    for source in overrides:
        for part in source.values.keys() & set(idle):
            raise InputError(f"{source.name}: the system {config.system} has no part {part}")


def schema_keys(schema: type, prefix: str = "") -> list[str]:
    """Every key of a configuration, dotted; parts before their own."""
    found = []
    for name, kind in field_types(schema).items():
        found.append(f"{prefix}{name}")
        if is_dataclass(kind):
            found += schema_keys(cast(type, kind), f"{prefix}{name}.")
    return found


def _near(schema: type, key: str) -> str:
    """The key that a wrong one may mean: of those with the nearest last name the most similar."""
    keys = schema_keys(schema)
    last = get_close_matches(key.split(".")[-1], {known.split(".")[-1] for known in keys}, 1)
    meant = [known for known in keys if known.split(".")[-1] in last]
    return f"; is {get_close_matches(key, meant, 1, 0)[0]} meant?" if meant else ""


def refuse_without_inputs(config: Config) -> None:
    """Refuses a run that lacks what its system needs, before anything is read.

    Raises:
        InputError: no data set, or no proposals for a system that chooses among them.
    """
    if not config.data.root:
        raise InputError("wanted --data ROOT, the data set to train on")
    if config.system in CHOOSE_PROPOSALS and not config.data.proposals:
        raise InputError(
            f"wanted --proposals HDF5: {config.system} chooses among the boxes of a file that "
            "`aamn extract` writes"
        )


def refuse_unread(
    command: str, path: str | None, overrides: Sequence[str], unread: Collection[str]
) -> None:
    """Refuses values that a subcommand would not look at: an override of one of the parts or keys
    `unread`, or a file that holds nothing else.

    Raises:
        InputError: names the override or the file, and the subcommand.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if _within(key, unread):
            raise InputError(f"--set {override}: `aamn {command}` does not read {key}")
    layers = [values for _, values in _read(find_recipe(path).resolve())] if path else []
    keys = [key for values in layers for key in _leaves(values) if key != "name"]
    if keys and all(_within(key, unread) for key in keys):
        raise InputError(f"--config {path}: `aamn {command}` reads none of its keys, {keys[0]} ...")


def _within(key: str, parts: Collection[str]) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def _leaves(values: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a tree's values."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


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


def from_dict(schema: type[Schema], values: dict[str, Any], file: str = "") -> Schema:
    """The inverse of `to_dict`, strict about unknown keys; `file` begins the errors' line.

    Raises:
        InputError: when the values were written by another version of the schema, or are none
            that it allows.
    """
    source = f"{file}: {STORED}" if file else STORED
    if not isinstance(values, Mapping):
        raise InputError(f"{source}: wanted a mapping of keys, got {type(values).__name__}")
    refuse_unplain(source, values)
    return cast(Schema, _merged(schema, [_Source(source, with_new_names(values))]))


def _said(error: Exception, source: str = "") -> str:
    """The error's first line, after the key that it is about where `source` does not name it."""
    key = getattr(error, "full_key", None)
    return (f"{key}: " if key and key not in source else "") + str(error).splitlines()[0]
