"""`aamn library`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aamn.cli.command_line import (
    CHECKPOINT,
    PATH,
    Existing,
    log,
    recipe_options,
    sentences,
    subcommand,
)
from aamn.config.schema import ONLY_TRAINING
from proposals.errors import InputError

SENTENCES = Existing("list of sentences")


@subcommand(
    "library",
    "aamn library runs/library --add runs/index",
    only_with={"--sentences": "--approximate", "--approximate": "--sentences"},
    unread=(*ONLY_TRAINING, "data", "flow"),
)
@click.argument("library")
@click.option("--add", multiple=True, metavar="DIR", help="insert or replace the indexes there")
@click.option("--remove", multiple=True, metavar="VIDEO", help="forget a video; may be repeated")
@click.option("--approximate", is_flag=True, help="make the index of `aamn search --approximate`")
@click.option(
    "--sentences",
    "file",
    type=SENTENCES,
    metavar="TXT",
    help="of this corpus, one a line: the recall of --approximate is measured on them",
)
@click.option("--bundle", type=PATH, metavar="DIR", help="with --approximate: the segmenter")
@click.option("--checkpoint", type=CHECKPOINT, metavar="PT", help="the segmenter, without bundle")
@recipe_options
def command(
    library: str,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    approximate: bool,
    file: Path | None,
    **values: Any,
) -> None:
    """Puts the tubes of many indexed videos into one table, a folder or s3:// place, that is
    searched without all of them in memory (docs/scale.md).

    What is there already stays. Without an option it says what the library holds.
    """
    from aamn.jobs.inputs import InputOptions, Inputs
    from aamn.jobs.library import indexes_at
    from aamn.search.library import RECALL_OF, Library

    made = Library(library)
    for folder in add:
        count = sum(1 for _ in made.add(indexes_at(folder)))
        log.info("%s: %d videos of %s", library, count, folder)
    if remove:
        log.info("%s: removed %d of %d videos", library, made.remove(remove), len(remove))
    if approximate:
        texts = sentences(file)
        if not texts:
            raise InputError(f"{file}: wanted at least one sentence")
        inputs = Inputs(InputOptions(**values))
        encoder = inputs.video_segmenter(boxes_needed=False).query_encoder
        share = made.searched_by(encoder).build_approximate(texts)
        print(f"recall@{RECALL_OF} of {len(texts)} sentences against the exact scan: {share:.3f}")
    print(f"{library}: {len(made)} rows")
