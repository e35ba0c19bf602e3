"""Where the public weights lie: in a folder of the user's, in the caches of the hub and of
torchvision, else they are downloaded; always the pinned ones, by their checksums."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch

from aamn.config.zeroshot import PublishedConfig
from aamn.models.zeroshot.image_text import FILES, WEIGHTS
from proposals.errors import InputError, reason_of

log = logging.getLogger("aamn")

INSTALL = "pip install 'aamn[zeroshot]'"
_HASH_DIGITS = 8  # of the SHA-256 at the end of torchvision's file names


@dataclass(frozen=True)
class Found:
    """Where something lies, and its SHA-256."""

    path: Path
    sha256: str


def find_image_text(published: PublishedConfig, folder: Path | None = None) -> Found:
    """The folder of the image-text model; `folder` is the user's, which holds its files, or a
    folder of them that has the model's name.

    Raises:
        InputError: it is neither there nor can it be downloaded, or has another checksum.
    """
    path = _given_model(published, folder) if folder else _from_hub(published)
    digest = sha256_of(path / WEIGHTS)
    if published.image_text_sha256 not in ("", digest):
        raise InputError(
            f"{path / WEIGHTS} has the SHA-256 {digest[:12]}..., the pinned one is "
            f"{published.image_text_sha256[:12]}...: fetch {published.image_text} at revision "
            f"{published.image_text_revision} again, or, if you mean another model, --set "
            "zeroshot.published.image_text_sha256="
        )
    return Found(path, digest)


def find_detector(published: PublishedConfig, folder: Path | None = None) -> Found:
    """The file of the detector's weights, in `folder` if the user gives one.

    Raises:
        InputError: as `find_image_text`.
    """
    path = (folder or Path(torch.hub.get_dir()) / "checkpoints") / published.detector
    if not path.is_file():
        if folder:
            raise InputError(
                f"{folder} lacks {published.detector}; fetch it from {_detector_url(published)}"
            )
        _download_detector(published, path)
    digest, wanted = sha256_of(path), Path(published.detector).stem.rpartition("-")[2]
    if len(wanted) == _HASH_DIGITS and not digest.startswith(wanted):
        raise InputError(
            f"{path} has the SHA-256 {digest[:_HASH_DIGITS]}..., its name says {wanted}: remove "
            f"it and fetch it again from {_detector_url(published)}"
        )
    return Found(path, digest)


def _detector_url(published: PublishedConfig) -> str:
    return published.detector_url + published.detector


def _download_detector(published: PublishedConfig, path: Path) -> None:
    """With a progress bar, to a file aside that becomes `path` when it is whole and right."""
    url = _detector_url(published)
    log.info("downloads %s to %s (%s)", url, path.parent, published.detector_licence)
    wanted = path.stem.rpartition("-")[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), wanted if len(wanted) == 8 else None)
    except RuntimeError:
        raise InputError(f"{url} has not the checksum that its name says; try again") from None
    except (URLError, OSError) as error:
        raise InputError(
            f"no {path} and no download ({reason_of(error)}): fetch {url} into {path.parent}, or "
            "give a folder with it, --weights DIR"
        ) from None


def _given_model(published: PublishedConfig, folder: Path) -> Path:
    """The user's folder of the model."""
    name = published.image_text.rpartition("/")[2]
    places = (folder, folder / name)
    for place in places:
        if (place / WEIGHTS).is_file():
            return place
    raise InputError(
        f"{folder} holds no {WEIGHTS}, nor does {places[1]}: fetch {', '.join((*FILES, WEIGHTS))} "
        f"of https://huggingface.co/{published.image_text}/tree/{published.image_text_revision} "
        f"into {places[1]}"
    )


def _from_hub(published: PublishedConfig) -> Path:
    """The model's folder in the hub's cache; what lacks there is downloaded with a progress bar."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise InputError(f"the image-text model is fetched by huggingface_hub: {INSTALL}") from None
    repository, revision = published.image_text, published.image_text_revision
    try:
        paths = [
            Path(
                hf_hub_download(repository, name, revision=revision, endpoint=published.hub or None)
            )
            for name in (*FILES, WEIGHTS)
        ]
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise InputError(
            f"the hub has no revision {revision} of {repository}; see zeroshot.published"
        ) from None
    except LocalEntryNotFoundError:
        raise InputError(_offline(published)) from None
    except EntryNotFoundError:
        raise InputError(
            f"{repository} at revision {revision} lacks one of {', '.join((*FILES, WEIGHTS))}: "
            "only models with safetensors are used"
        ) from None
    except Exception as error:  # its client of HTTP has errors of many kinds
        reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
        raise InputError(f"{_offline(published)} ({reason})") from None
    return paths[-1].parent


def _offline(published: PublishedConfig) -> str:
    name = published.image_text.rpartition("/")[2]
    return (
        f"{published.image_text} is not in the hub's cache and cannot be downloaded: fetch "
        f"{', '.join((*FILES, WEIGHTS))} of https://huggingface.co/{published.image_text}/tree/"
        f"{published.image_text_revision} into a folder DIR/{name}, and give --weights DIR"
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: {reason_of(error)}") from None
    return digest.hexdigest()
