"""`aamn configs`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from aamn.cli.command_line import PATH, subcommand
from aamn.config.recipes import find_recipe, recipe_folder, recipe_names
from proposals.errors import InputError


def _what(path: Path) -> str:
    """The comment that a recipe begins with, in one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return re.split(r"(?<!Sec)(?<! al)\. ", " ".join(comment))[0].rstrip(".")


@subcommand("configs", "aamn configs copy aamn_vgg16_a2d .")
@click.argument("action", type=click.Choice(["list", "show", "copy"]), default="list")
@click.argument("name", required=False)
@click.argument("folder", type=PATH, required=False)
def command(action: str, name: str | None, folder: Path | None) -> None:
    """Lists the recipes that --config takes by name, prints one, or copies one into a folder, its
    bases beside it."""
    if action != "copy" and folder is not None:
        raise InputError(f"{folder}: a folder is for `aamn configs copy` alone")
    if action == "list":
        for known in recipe_names():
            if name is None or name in known:
                print(f"{known:<42} {_what(find_recipe(known))}")
        return
    from aamn.config.loading import recipe_files

    if name is None:
        raise InputError(f"wanted the name of a recipe: `aamn configs {action} NAME`")
    path = find_recipe(name)
    if action == "show":
        print(path.read_text(encoding="utf-8"), end="")
        return
    _copy(recipe_files(path), folder or Path())


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Copies recipes into a folder; one that is there already, word for word, is left alone."""
    from proposals.files import write_text
    from proposals.outputs import check_output

    check_output(folder, folder=True)
    known = recipe_folder().resolve()
    if not files[-1].is_relative_to(known):
        raise InputError(f"{files[-1]} is a file of your own, no recipe of `aamn configs`")
    targets = [folder / file.relative_to(known) for file in files]
    for file, target in zip(files, targets, strict=True):
        if target.exists() and target.read_bytes() != file.read_bytes():
            raise InputError(f"{target} is there already; remove it or choose another folder")
    for file, target in zip(files, targets, strict=True):
        if not target.exists():
            write_text(target, file.read_text(encoding="utf-8"))
        print(target)
