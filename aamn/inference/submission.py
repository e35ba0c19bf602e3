"""Results in the layouts that the servers of referring video object segmentation accept.

    ref-youtube-vos  Annotations/<video>/<eid>/<frame>.png   mode L, 0 and 255
    mevis            <video>/<eid>/<frame>.png               mode L, 0 and 255
    davis            anno_<n>/<video>/<frame>.png            indexed, one index an object

The frames are the listed ones, at the video's size. Zip the contents of the folder, not itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aamn.data.datasets.refvos import Listing, ReferringVideos
from aamn.inference.labels import merge_objects, write_labels, write_png
from aamn.inference.track import Track
from proposals.errors import InputError
from proposals.files import inside

LAYOUTS = ("ref-youtube-vos", "mevis", "davis")


def write_video(
    source: ReferringVideos,
    video_id: str,
    tracks: Sequence[Track],
    out: str | Path,
    layout: str = "ref-youtube-vos",
) -> None:
    """Writes the answers to all sentences of one video, in their order; each covers every frame.

    Raises:
        InputError: an unknown layout, an id that is no name of a file, or sentences that are not
            the same number an object (davis).
        ValueError: another number of tracks than sentences, or of masks than frames.
    """
    listing = source.listing(video_id)
    if len(tracks) != len(listing.sentences):
        raise ValueError(f"{video_id}: {len(listing.sentences)} sentences, {len(tracks)} tracks")
    for track in tracks:
        if len(track) != len(listing.frames):
            raise ValueError(f"{video_id}: {len(listing.frames)} frames, {len(track)} masks")
    if layout not in LAYOUTS:
        raise InputError(f"wanted one of the layouts {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "davis":
        _write_davis(listing, video_id, tracks, Path(out))
    else:
        top = Path(out) / "Annotations" if layout == "ref-youtube-vos" else Path(out)
        for eid, track in zip(listing.sentences, tracks, strict=True):
            for name, mask in zip(listing.frames, track.masks(), strict=True):
                picture = Image.fromarray(mask.astype(np.uint8) * 255)
                write_png(picture, inside(top, video_id, eid, f"{name}.png"))


def _write_davis(listing: Listing, video_id: str, tracks: Sequence[Track], out: Path) -> None:
    """One folder for each annotator: their n-th sentences of all objects make one labelling."""
    for number, indices in enumerate(_annotators(listing, video_id)):
        masks = np.stack([tracks[place].masks() for place in indices])
        labels = merge_objects(masks, [tracks[place].score for place in indices])
        for name, label in zip(listing.frames, labels, strict=True):
            write_labels(label, inside(out, f"anno_{number}", video_id, f"{name}.png"))


def _annotators(listing: Listing, video_id: str) -> list[list[int]]:
    """For each annotator, the indices of their sentences, ordered by object. Where the file names
    no objects, four sentences in a row are the four annotators' of one object."""
    by_object: dict[tuple[str, ...], list[int]] = {}
    for place, eid in enumerate(listing.sentences):
        by_object.setdefault(listing.objects.get(eid, (str(place // 4),)), []).append(place)
    ordered = [by_object[names] for names in sorted(by_object, key=lambda n: [int(x) for x in n])]
    if len({len(indices) for indices in ordered}) != 1:
        raise InputError(f"{video_id}: wanted as many sentences for each object, as in Ref-DAVIS17")
    return [list(indices) for indices in zip(*ordered, strict=True)]
