"""`aamn verify`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import OUT_FILE, all_but, out_option, recipe_options, subcommand
from proposals.errors import InputError
from proposals.terminal import printable


@subcommand(
    "verify",
    "aamn verify --data data/a2d --deep --fix-list again.txt",
    unread=(*all_but("data"), "data.proposals", "data.flow", "data.workers"),
)
@click.option("--data", metavar="ROOT", help="the data set; default: data.root")
@click.option(
    "--kind",
    type=click.Choice(["a2d", "folder", "jhmdb", "refvos"]),
    help="its layout; default: data.kind",
)
@click.option("--deep", is_flag=True, help="decode every frame and every mask")
@click.option("--fix-list", type=OUT_FILE, metavar="FILE", help="write the paths to download again")
@recipe_options
@out_option("also write what was found there, as JSON")
def command(
    data: str | None,
    kind: str | None,
    deep: bool,
    fix_list: Path | None,
    config: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
) -> int:
    """Checks layout, counts, videos, masks and sentences of a data set and prints what is wrong
    with it. The exit code is 1 when something fatal was found."""
    from dataclasses import replace

    from aamn.config.loading import load_config
    from aamn.config.schema import Config
    from aamn.data.verify.data_set import verify_data_set
    from proposals.files import write_json, write_text

    if kind:
        overrides = (*overrides, f"data.kind={kind}")
    recipe = load_config(Config, config, overrides).data
    recipe = replace(recipe, root=data or recipe.root)
    if not recipe.root:
        raise InputError("wanted --data ROOT, the data set to check")
    found = verify_data_set(recipe, deep)
    print(printable(found.table(), "\n"))
    if fix_list:
        write_text(fix_list, "".join(f"{path}\n" for path in found.fix_list()))
    if out:
        write_json(out, found.to_dict())
    return 1 if found.fatal else 0
