"""A describer by an image-text model (CLIP, SigLIP, SigLIP 2) through transformers, the one file
that imports it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.zeroshot import ZeroShotConfig
from aamn.models.zeroshot.sentences import Asked
from aamn.models.zeroshot.views import TubeViews
from aamn.structures import Query
from proposals.errors import InputError

FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json")
WEIGHTS = "model.safetensors"
KINDS = ("clip", "siglip", "siglip2")  # `model_type` of config.json
MOST_TOKENS = 64
_LOCAL = {"local_files_only": True, "trust_remote_code": False}  # neither network nor its code


@dataclass(frozen=True)
class Normalisation:
    """What the image side expects: squares of `side` pixels, mean and std of their channels."""

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ImageTextModel(nn.Module):
    """Images and texts as vectors of one space, each of length 1."""

    def __init__(self, model: nn.Module, tokeniser: Any, images: Normalisation) -> None:
        super().__init__()
        self.model: Any = model  # transformers' classes
        self.tokeniser, self.side = tokeniser, images.side
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(images.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(images.std).view(1, 3, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        config = self.model.config
        return int(getattr(config, "projection_dim", 0) or config.text_config.hidden_size)

    def encode_images(self, images: Tensor) -> Tensor:
        """(N, D) of images (N, 3, side, side) in [0, 1]."""
        dtype = next(self.model.parameters()).dtype
        pixels = ((images - self.mean) / self.std).to(dtype)
        return F.normalize(_vectors(self.model.get_image_features(pixel_values=pixels)), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) of texts."""
        settings = self.model.config.text_config
        most = min(MOST_TOKENS, int(settings.max_position_embeddings))
        padding = "max_length" if "siglip" in self.model.config.model_type else True
        found = self.tokeniser(
            [text.lower() for text in texts],
            padding=padding,
            truncation=True,
            max_length=most,
            return_tensors="pt",
        )
        given = {k: v.to(self.mean.device) for k, v in found.items() if k in _TAKEN[padding]}
        return F.normalize(_vectors(self.model.get_text_features(**given)), dim=-1)


_TAKEN = {"max_length": ("input_ids",), True: ("input_ids", "attention_mask")}


def _vectors(found: Any) -> Tensor:
    """The pooled vectors, float32; older versions of transformers give them without a wrapper."""
    return (found if isinstance(found, Tensor) else found.pooler_output).float()


def read_image_text(folder: Path, precision: str = "float32") -> ImageTextModel:
    """The model in a folder as the hub has it, with its tokeniser; nothing is downloaded, and no
    file but safetensors is taken for weights.

    Raises:
        InputError: transformers is not installed, a file is missing or is of another model, not
            enough memory.
    """
    transformers = _transformers()
    _check_folder(folder)
    try:
        model = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=getattr(torch, precision), **_LOCAL
        )
        tokeniser = transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except MemoryError:
        raise InputError(f"{folder}: not enough memory for the image-text model") from None
    except Exception as error:  # whatever a damaged file makes the library stumble over
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{folder} holds no usable image-text model ({said})") from None
    return ImageTextModel(model.eval(), tokeniser, _normalisation(folder))


def _check_folder(folder: Path) -> None:
    missing = [name for name in (*FILES, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {missing[0]}; wanted the files {', '.join((*FILES, WEIGHTS))} of an "
            "image-text model as the hub has them"
        )
    kind = _json(folder / "config.json").get("model_type")
    if kind not in KINDS:
        raise InputError(
            f"{folder}/config.json is of a model of type {kind!r}, wanted one of {', '.join(KINDS)}"
        )


def _normalisation(folder: Path) -> Normalisation:
    values = _json(folder / "preprocessor_config.json")
    side = _json(folder / "config.json").get("vision_config", {}).get("image_size", 224)
    size = values.get("crop_size") or values.get("size") or side
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or side
    mean, std = (tuple(values.get(key, (0.5,) * 3)) for key in ("image_mean", "image_std"))
    return Normalisation(int(size), mean, std)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged; fetch it again")
    return content


class ImageText(nn.Module):
    """Tubes by their crops with context, as they are and with a dimmed background, averaged;
    sentences by a few prompts, averaged, less what generic sentences say of anything.

    So a score of 0 is what a sentence about nothing in particular gets.
    """

    def __init__(self, config: ZeroShotConfig, model: ImageTextModel, fingerprint: str) -> None:
        super().__init__()
        self.config, self.model, self.fingerprint = config, model, fingerprint
        self.width = model.width
        self._generic: Tensor | None = None

    def tubes(self, views: TubeViews) -> Tensor:
        """(B, K, D), of length 1; zeros where a tube is in no frame. Crops go through the model
        together, whatever clip, tube and frame they are of, and only where a box was detected."""
        there = views.there.flatten()
        seen = views.at(there)
        step, shown = self.config.crops, [there.new_zeros(0, self.width, dtype=torch.float32)]
        for part in seen.parts(max(1, step // 2)):
            pair = part.surroundings(self.config.context, self.model.side, self.config.dimmed)
            plain, dimmed = self.model.encode_images(torch.cat(pair)).float().chunk(2)
            shown.append(plain + dimmed)
        found = torch.cat(shown)
        every = found.new_zeros(len(there), self.width)
        every[there] = found
        return F.normalize(views.mean(every), dim=-1)

    def sentences(self, queries: Sequence[Query], asked: Sequence[Asked]) -> tuple[Tensor, Tensor]:
        """(Q, D), and how much of it each word contributes, (Q, L): all the same."""
        if self._generic is None:
            self._generic = self._prompted(self.config.generic).mean(0)
        rows = self._prompted([query.text for query in queries]) - self._generic
        length = max(len(query.tokens) for query in queries)
        shares = torch.zeros(len(queries), length)
        for row, query in enumerate(queries):
            shares[row, : len(query.tokens)] = 1 / len(query.tokens)
        return self.config.gains.image_text * rows.cpu(), shares

    def _prompted(self, texts: Sequence[str]) -> Tensor:
        """(n, D): the mean over the prompts."""
        prompts = self.config.prompts
        written = [prompt.format(text) for text in texts for prompt in prompts]
        return self.model.encode_texts(written).unflatten(0, (len(texts), len(prompts))).mean(1)


def untrained_image_text() -> ImageTextModel:
    """A model of the published one's image side, ViT-B/16 at 224 pixels, with random weights and a
    small text side that reads letters: for measurements of what it costs.

    Raises:
        InputError: transformers is not installed.
    """
    transformers = _transformers()
    small = {"hidden_size": 768, "num_hidden_layers": 1, "vocab_size": 256}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=small))
    half = (0.5,) * 3
    return ImageTextModel(model.eval(), _letters, Normalisation(224, half, half))


def _letters(texts: Sequence[str], max_length: int, **given: Any) -> dict[str, Tensor]:
    """Texts as the numbers of their first letters."""
    rows = [[ord(c) % 256 for c in text.ljust(max_length)[:max_length]] for text in texts]
    return {"input_ids": torch.tensor(rows)}


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError(
            "the image-text model needs transformers: pip install 'aamn[zeroshot]'"
        ) from None
    return transformers
