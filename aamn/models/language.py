"""The sentence's side: BiLSTM word states, word attention, query representations (3)-(5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from aamn.config.schema import LanguageConfig


@dataclass(frozen=True)
class EncodedQueries:
    """Per module name: `vectors` (Q, C_e), the attended mean of the word vectors (5), and
    `attention` (Q, L), the word weights (4), zero beyond a sentence's end."""

    vectors: dict[str, Tensor]
    attention: dict[str, Tensor]


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where `mask`, zero elsewhere."""
    return logits.masked_fill(~mask, -torch.inf).softmax(-1)


class WordStates(nn.Module):
    """Bidirectional LSTM layers whose outputs are concatenated over layers (3).

    (Q, L, C_e) -> (Q, L, layers * 2 * hidden); padding neither reads nor writes a state.
    """

    def __init__(self, dimension: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [dimension] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList(
            nn.LSTM(size, hidden, batch_first=True, bidirectional=True) for size in sizes
        )
        self.channels = layers * 2 * hidden

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        states = []
        for layer in self.layers:
            packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
            words, _ = pad_packed_sequence(layer(packed)[0], batch_first=True)
            states.append(words)
        return torch.cat(states, -1)


class LearnedAttention(nn.Module):
    """gamma^m = softmax over words of W_m h_t (4), for each module m."""

    def __init__(self, config: LanguageConfig, dimension: int, modules: Sequence[str]) -> None:
        super().__init__()
        self.states = WordStates(dimension, config.hidden, config.layers)
        # A bias would cancel in the softmax.
        self.weights = nn.ModuleDict(
            {name: nn.Linear(self.states.channels, 1, bias=False) for name in modules}
        )

    def forward(self, words: Tensor, lengths: Tensor, mask: Tensor) -> dict[str, Tensor]:
        states = self.states(words, lengths)
        return {
            name: masked_softmax(layer(states)[..., 0].float(), mask)
            for name, layer in self.weights.items()
        }


class RandomAttention(LearnedAttention):
    """Word weights drawn at random, normalised: Table IX's check of what the attention is worth."""

    def forward(self, words: Tensor, lengths: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {
            name: masked_softmax(torch.rand_like(words[..., 0]).float(), mask)
            for name in self.weights
        }


class MeanAttention(nn.Module):
    """Equal weights for all words (Table IV's baseline)."""

    def __init__(self, config: LanguageConfig, dimension: int, modules: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(modules)

    def forward(self, words: Tensor, lengths: Tensor, mask: Tensor) -> dict[str, Tensor]:
        weights = mask.float() / mask.sum(-1, keepdim=True)
        return dict.fromkeys(self.names, weights)


ATTENTIONS = {"learned": LearnedAttention, "random": RandomAttention, "mean": MeanAttention}


def _padded(sentences: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Word ids (Q, L) on the device, lengths (Q,) on the CPU, and which ids are words (Q, L)."""
    lengths = torch.tensor([len(words) for words in sentences])
    ids = pad_sequence(list(sentences), batch_first=True).to(device)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(device)
    return ids, lengths, mask


class Language(nn.Module):
    """Word ids of Q sentences to one query vector a module.

    `embedding` maps ids to e_t (C_e); id 0 is padding.
    """

    def __init__(
        self, config: LanguageConfig, embedding: nn.Embedding, modules: Sequence[str]
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.attention = ATTENTIONS[config.attention](config, embedding.embedding_dim, modules)

    @staticmethod
    def channels(config: LanguageConfig, dimension: int) -> int:
        """C_e, of each vector."""
        return dimension

    def forward(self, sentences: Sequence[Tensor]) -> EncodedQueries:
        """Sentences as word ids, each (L,) on any device."""
        return self.encode(*_padded(sentences, self.embedding.weight.device))

    def encode(self, ids: Tensor, lengths: Tensor, mask: Tensor) -> EncodedQueries:
        """The same of word ids (Q, L), the sentences' lengths (Q,) on the CPU, and which ids are
        words (Q, L)."""
        words = self.embedding(ids)  # (Q, L, C_e)
        attention = self.attention(words, lengths, mask)
        vectors = {
            name: torch.einsum("ql,qlc->qc", weights.to(words.dtype), words)
            for name, weights in attention.items()
        }
        return EncodedQueries(vectors, attention)


class StateLanguage(nn.Module):
    """Beyond the paper: several attentions a module, over the words' states (3) beside the words
    themselves. The same interface; the attention shown is their mean."""

    def __init__(
        self, config: LanguageConfig, embedding: nn.Embedding, modules: Sequence[str]
    ) -> None:
        super().__init__()
        self.embedding, self.heads, self.dropout = embedding, config.heads, config.word_dropout
        dimension = embedding.embedding_dim
        self.states = WordStates(dimension, config.hidden, config.layers)
        values = self.channels(config, dimension) // config.heads
        self.weights = nn.ModuleDict(
            {name: nn.Linear(values, config.heads, bias=False) for name in modules}
        )

    @staticmethod
    def channels(config: LanguageConfig, dimension: int) -> int:
        """Of each vector: of every head, a word and its states."""
        return config.heads * (dimension + config.layers * 2 * config.hidden)

    def forward(self, sentences: Sequence[Tensor]) -> EncodedQueries:
        """Sentences as word ids, each (L,) on any device."""
        return self.encode(*_padded(sentences, self.embedding.weight.device))

    def encode(self, ids: Tensor, lengths: Tensor, mask: Tensor) -> EncodedQueries:
        """The same of word ids (Q, L), the sentences' lengths (Q,) on the CPU, and which ids are
        words (Q, L)."""
        words = self.embedding(ids)
        if self.training and self.dropout:
            words = words * (torch.rand(ids.shape, device=ids.device) >= self.dropout)[..., None]
        values = torch.cat([words, self.states(words, lengths)], -1)
        vectors, attention = {}, {}
        for name, layer in self.weights.items():
            weights = masked_softmax(layer(values).float().transpose(1, 2), mask[:, None])
            picked = torch.einsum("qhl,qlc->qhc", weights.to(values.dtype), values)
            vectors[name], attention[name] = picked.flatten(1), weights.mean(1)
        return EncodedQueries(vectors, attention)


LANGUAGES: dict[str, type[Language | StateLanguage]] = {
    "words": Language,
    "states": StateLanguage,
}
