"""Reading of a recipe's YAML: plain values alone, each key once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from proposals.errors import InputError
from proposals.limits import check_nesting

MOST_BYTES, MOST_VALUES, DEEPEST = 2**20, 20_000, 20


class _Loader(yaml.SafeLoader):
    """YAML in which no key is given twice or merged from elsewhere."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            line = f"line {key.start_mark.line + 1}"
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"{line}: wanted `base: FILE` instead of a merge by <<")
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.YAMLError(f"{line}: the key {key.value} is there already")
            seen.add(str(key.value))
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """A file's mapping of keys; nothing is one without keys.

    Raises:
        InputError: no such file, no YAML, no mapping; a key given twice, or what
            `refuse_unplain` refuses.
    """
    try:
        content = yaml.load(check_nesting(_text(path), str(path)), _Loader)
    except FileNotFoundError:
        raise InputError(f"no config file at {path}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no readable YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{path} is no readable YAML: too deep a tree") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path}: wanted a mapping of keys, got {type(content).__name__}")
    refuse_unplain(str(path), content)
    return content


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise OSError("no file")
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} characters")
    return text


def refuse_unplain(source: str, content: Mapping[Any, Any]) -> None:
    """Refuses what is more than it says: interpolations, which OmegaConf would resolve (from the
    environment, too), "???", trees that hold themselves or that aliases make huge.

    Raises:
        InputError: one of these; names `source` and the key.
    """
    for count, (key, value) in enumerate(islice(_values("", content, 0, source), MOST_VALUES + 1)):
        if count == MOST_VALUES:
            raise InputError(f"{source}: more than {MOST_VALUES} values")
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise InputError(f"{source}: {key}: wanted a plain value, got {value[:80]!r}")


def _values(key: str, value: Any, depth: int, source: str) -> Iterator[tuple[str, Any]]:
    """Every value of a tree with its dotted key; those of lists have that of the list."""
    if depth > DEEPEST:
        raise InputError(f"{source}: {key[:80]}: the tree is deeper than {DEEPEST} keys")
    yield key, None if isinstance(value, dict | list | tuple) else value
    if isinstance(value, Mapping):
        for name, own in value.items():
            yield key, name
            yield from _values(f"{key}.{name}".lstrip("."), own, depth + 1, source)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _values(key, own, depth + 1, source)
