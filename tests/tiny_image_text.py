"""transformers' real classes of image-text models at tiny sizes, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ("a", "red", "dog", "photo", "of", "something")
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
TEXT = {**SMALL, "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 12}
VISION = {**SMALL, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}


def tokeniser():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ("<pad>", "<unk>", "<bos>", "<eos>", *WORDS)
    vocabulary = {word: number for number, word in enumerate(names)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    )


def tiny_model(kind: str):
    import transformers

    torch.manual_seed(0)
    if kind == "clip":
        ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
        config = transformers.CLIPConfig(
            text_config={**TEXT, **ends}, vision_config=VISION, projection_dim=8
        )
        return transformers.CLIPModel(config)
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
    return transformers.SiglipModel(config)


def save_tiny_model(path: Path, kind: str) -> Path:
    """Writes a model, "clip" or "siglip", as the hub has it."""
    path.mkdir(parents=True, exist_ok=True)
    tiny_model(kind).save_pretrained(path)
    tokeniser().save_pretrained(path)
    values = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 16, "width": 16}}
    (path / "preprocessor_config.json").write_text(json.dumps(values))
    return path
