"""Sentence encoders of Gavrilyuk et al. and ACGA: word vectors to word features F_T (1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvText(nn.Module):
    """A convolution over the words and tanh: (S, L, C_e) -> (S, C_e, L).

    An even kernel sees one word more on the right than on the left.
    """

    def __init__(self, dimension: int, kernel: int) -> None:
        super().__init__()
        self.padding = ((kernel - 1) // 2, kernel // 2)
        self.conv = nn.Conv1d(dimension, dimension, kernel)

    def forward(self, words: Tensor) -> Tensor:
        return self.conv(F.pad(words.transpose(1, 2), self.padding)).tanh()


class LSTMText(nn.Module):
    """An LSTM over the words (ACGA suppl., Table 2): (S, L, C_e) -> (S, C_e, L).

    The paper gives no size; here as wide as the word vectors, because F_T must keep its width.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dimension, dimension, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        return self.lstm(words)[0].transpose(1, 2)
