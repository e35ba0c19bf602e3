"""A describer without any image-text model: the detector's classes, and the names of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aamn.config.zeroshot import ZeroShotConfig
from aamn.models.zeroshot.colours import colour_shares
from aamn.models.zeroshot.sentences import (
    ASIDE,
    COLOUR_WORDS,
    COLOURS,
    DIRECTIONS,
    NOUNS,
    RULES,
    STOP_WORDS,
    Asked,
)
from aamn.models.zeroshot.views import SMALL, TubeViews
from aamn.structures import Query

SHARP = 12.0  # factor of the cosines in the softmax over the classes
UNNAMED = "N/A"  # what torchvision calls the numbers that COCO has left out
PRESENT = 0.5  # a class or colour that is half there is as good as none: the score is 0 there


class NamedWords(Protocol):
    """The words of a segmenter, which can be asked for."""

    @property
    def weight(self) -> Tensor:
        """Their vectors, one row a number."""

    def queries(self, texts: str | Sequence[str]) -> list[Query]:
        """Texts as word numbers."""

    def encoded(self, texts: Sequence[str]) -> list[Query]:
        """The same, with nothing said."""


def table_words(classes: Sequence[str]) -> list[str]:
    """All words that the tables know, and those of the classes' names."""
    named = [word for name in classes for word in name.lower().split() if name != UNNAMED]
    return sorted({*RULES, *DIRECTIONS, *COLOUR_WORDS, *NOUNS, *STOP_WORDS, *named})


def _number(name: str, words: NamedWords) -> int:
    """The number of a class name that is one word, else that of padding: half of the words of "hot
    dog" mean something else."""
    if name == UNNAMED.lower():
        return 0
    found = words.queries(name)[0].words
    return int(found[0]) if len(found) == 1 else 0


def attributes_width(classes: Sequence[str]) -> int:
    """Numbers of a vector: classes, colours and a constant."""
    return len(classes) + len(COLOURS) + 1


class Attributes(nn.Module):
    """Tubes as class probabilities and colour shares; sentences as what they want of each.

    The coordinates are the C classes, the eleven colours and a constant. A tube's class coordinate
    is the root of its probability, a colour's the root of its share: a red shirt is a small part
    of a man in red.
    """

    def __init__(self, config: ZeroShotConfig, words: NamedWords) -> None:
        super().__init__()
        self.gains, self.likeness = config.gains, config.likeness
        self.classes = tuple(name.lower() for name in config.classes)
        self.width = attributes_width(self.classes)
        self._words = [words]  # a segmenter's words are saved once
        self._exact = {name: place for place, name in enumerate(self.classes)}
        self._names = torch.tensor([_number(name, words) for name in self.classes])

    def tubes(self, views: TubeViews) -> Tensor:
        """(B, K, C + 12)."""
        shares = views.mean(colour_shares(views.crops(SMALL), views.grids(SMALL)))
        constant = torch.ones_like(shares[..., :1])
        return torch.cat([views.classes.sqrt(), shares.sqrt(), constant], -1)

    def sentences(self, queries: Sequence[Query], asked: Sequence[Asked]) -> tuple[Tensor, Tensor]:
        """(Q, C + 12), and how much of it each word contributes, (Q, L)."""
        length = max(len(query.tokens) for query in queries)
        pairs = zip(queries, asked, strict=True)
        found = [self._row(query, one, length) for query, one in pairs]
        return torch.stack([row for row, _ in found]), torch.stack([part for _, part in found])

    def _row(self, query: Query, asked: Asked, length: int) -> tuple[Tensor, Tensor]:
        row, shares = torch.zeros(self.width), torch.zeros(length)
        head, wanted = self._head(query, asked)
        if asked.nouns:  # what is like no class is not there, as far as the detector can tell
            row[-1] -= self.gains.classes * PRESENT
        if wanted is not None:
            row[: len(self.classes)] = self.gains.classes * wanted
            shares[head] = self.gains.classes
        own = self._own_colours(query, asked, head)
        for place, name in own.items():
            row[len(self.classes) + COLOURS.index(name)] += self.gains.colours / len(own)
            row[-1] -= self.gains.colours * PRESENT / len(own)
            shares[place] = self.gains.colours / len(own)
        return row, shares

    def _head(self, query: Query, asked: Asked) -> tuple[int, Tensor | None]:
        """The place of the first word that is like a class, and how much it wants each (C,)."""
        for place in asked.nouns:
            wanted = self.affinities(query, place)
            if wanted is not None:
                return place, wanted
        return 0, None

    def _own_colours(self, query: Query, asked: Asked, head: int) -> Mapping[int, str]:
        """The colours of what the sentence means, not of a thing that it is beside."""
        found = {}
        for place, name in asked.colours.items():
            between = query.tokens[head:place]
            following = [n for n in asked.nouns if place < n <= place + 2]
            thing = any(self.affinities(query, n) is not None for n in following if n != head)
            if not (thing and place > head and (ASIDE & {*between} or "on" in between)):
                found[place] = name
        return found

    def affinities(self, query: Query, place: int) -> Tensor | None:
        """How much the word wants each class, (C,) in [0, 1]; None for a word like none of them."""
        word = query.tokens[place]
        pair = " ".join(query.tokens[place : place + 2])
        exact = [name for name in (pair, word) if name in self._exact] or [
            name for name in NOUNS.get(word, NOUNS.get(word.removesuffix("s"), ()))
        ]
        if word.removesuffix("s") in self._exact:
            exact.append(word.removesuffix("s"))
        places = [self._exact[name] for name in exact if name in self._exact]
        if places:
            found = torch.zeros(len(self.classes))
            found[places] = 1.0
            return found
        return self._alike(int(query.words[place]))

    def _alike(self, number: int) -> Tensor | None:
        """By the cosines of the word's vector with those of the classes' names."""
        weight = self._words[0].weight.detach()
        names = weight[self._names.to(weight.device)]
        cosines = F.cosine_similarity(names, weight[number][None], dim=1).cpu()
        if float(cosines.max()) < self.likeness:
            return None
        near = (SHARP * cosines).softmax(0)
        return near / near.max()
