"""`aamn export`."""

from __future__ import annotations

from pathlib import Path

import click

from aamn.cli.command_line import PATH, out_option, subcommand


@subcommand("export", "aamn export --bundle runs/demo/bundle --out runs/demo/export")
@click.option("--bundle", type=PATH, required=True, metavar="DIR", help="from `aamn bundle`")
@out_option("the folder for the graphs", required=True, folder=True)
def command(bundle: Path, out: Path) -> None:
    """Writes a bundle's networks as ONNX graphs, the sentences' one apart from the videos', with
    the vocabulary and a record as JSON. onnxruntime runs them: --bundle of the other subcommands
    and aamn.load() take the folder as they take a bundle (docs/export.md)."""
    from aamn.jobs.export import export_bundle

    export_bundle(bundle, out)
    print(out)
