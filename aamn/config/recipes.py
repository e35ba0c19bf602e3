"""Recipes by name: the YAML files of configs/, which travel inside the wheel."""

from __future__ import annotations

from pathlib import Path

from proposals.errors import InputError

TABLES = "published"  # the paper's tables, no recipe


def recipe_folder() -> Path:
    """Where the recipes lie: inside the installed package, or beside it in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def recipe_names() -> list[str]:
    """All recipes, as they are named on the command line: "aamn_demo", "ablations/table5_flow"."""
    folder = recipe_folder()
    files = (path.relative_to(folder) for path in folder.rglob("*.yaml"))
    return sorted(str(file.with_suffix("")) for file in files if file.stem != TABLES)


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: a path, or one of `recipe_names`, with or without .yaml.

    Raises:
        InputError: there is no such file and no such recipe; names near ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    stem = str(name).removeprefix("configs/").removesuffix(".yaml")
    names = recipe_names()
    if stem in names:
        return recipe_folder() / f"{stem}.yaml"
    if path.exists():  # a folder: its reader says what is wrong with it
        return path
    raise InputError(f"no config file at {name}{_near(stem, names)}")


def _near(stem: str, names: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(stem, names, 1)
    return f"; is {near[0]} meant? `aamn configs` lists the recipes" if near else ""
