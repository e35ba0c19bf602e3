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
from aamn.structures import MaskTrack
from proposals.errors import InputError
from proposals.files import written_aside

LAYOUTS = ("ref-youtube-vos", "mevis", "davis")


def write_video(
    source: ReferringVideos,
    video_id: str,
    tracks: Sequence[MaskTrack],
    out: str | Path,
    layout: str = "ref-youtube-vos",
) -> None:
    """Writes the answers to all sentences of one video, in their order; each covers every frame.

    Raises:
        InputError: an unknown layout, or sentences that are not the same number an object (davis).
        ValueError: another number of tracks than sentences, or of masks than frames.
    """
    listing = source.listing(video_id)
    if len(tracks) != len(listing.sentences):
        raise ValueError(f"{video_id}: {len(listing.sentences)} sentences, {len(tracks)} tracks")
    for track in tracks:
        if len(track.masks) != len(listing.frames):
            raise ValueError(f"{video_id}: {len(listing.frames)} frames, {len(track.masks)} masks")
    if layout not in LAYOUTS:
        raise InputError(f"wanted one of the layouts {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "davis":
        _write_davis(listing, video_id, tracks, Path(out))
    else:
        top = Path(out) / "Annotations" if layout == "ref-youtube-vos" else Path(out)
        for eid, track in zip(listing.sentences, tracks, strict=True):
            for name, mask in zip(listing.frames, track.masks.numpy(), strict=True):
                picture = Image.fromarray(mask.astype(np.uint8) * 255)
                _save(picture, top / video_id / eid / f"{name}.png")


def davis_palette(colours: int = 256) -> list[int]:
    """r, g, b of each index: 0 black, 1 (128, 0, 0), 2 (0, 128, 0), 3 (128, 128, 0) ... : the bits
    of the index, three at a time from the lowest, fill the channels from the highest bit down."""
    palette = []
    for index in range(colours):
        for channel in range(3):
            bits = [(index >> (3 * place + channel)) & 1 for place in range(3)]
            palette.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return palette


def merge_objects(masks: np.ndarray, scores: Sequence[float]) -> np.ndarray:
    """Labels (N, H0, W0) uint8, 0 for none and n for object n (1-based), of masks (n, N, H0, W0)
    bool; where two overlap the higher score wins."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for place in np.argsort(np.asarray(scores), kind="stable"):
        labels[masks[place]] = place + 1
    return labels


def write_labels(labels: np.ndarray, path: Path) -> None:
    """An indexed PNG of labels (H0, W0) uint8 with DAVIS's palette, written atomically."""
    picture = Image.fromarray(labels, "P")
    picture.putpalette(davis_palette())
    _save(picture, path)


def _write_davis(listing: Listing, video_id: str, tracks: Sequence[MaskTrack], out: Path) -> None:
    """One folder for each annotator: their n-th sentences of all objects make one labelling."""
    for number, places in enumerate(_annotators(listing, video_id)):
        masks = np.stack([tracks[place].masks.numpy() for place in places])
        labels = merge_objects(masks, [tracks[place].score for place in places])
        for name, label in zip(listing.frames, labels, strict=True):
            write_labels(label, out / f"anno_{number}" / video_id / f"{name}.png")


def _annotators(listing: Listing, video_id: str) -> list[list[int]]:
    """For each annotator, the places of their sentences, ordered by object. Where the file names
    no objects, four sentences in a row are the four annotators' of one object."""
    by_object: dict[tuple[str, ...], list[int]] = {}
    for place, eid in enumerate(listing.sentences):
        by_object.setdefault(listing.objects.get(eid, (str(place // 4),)), []).append(place)
    ordered = [by_object[names] for names in sorted(by_object, key=lambda n: [int(x) for x in n])]
    if len({len(places) for places in ordered}) != 1:
        raise InputError(f"{video_id}: wanted as many sentences for each object, as in Ref-DAVIS17")
    return [list(places) for places in zip(*ordered, strict=True)]


def _save(picture: Image.Image, path: Path) -> None:
    with written_aside(path) as aside:
        picture.save(aside, format="PNG")
