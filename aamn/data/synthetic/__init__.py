"""A small corpus in the file layout of A2D Sentences, drawn instead of filmed."""

from aamn.data.synthetic.config import SyntheticConfig
from aamn.data.synthetic.corpus import CorpusSummary, write_corpus

__all__ = ["CorpusSummary", "SyntheticConfig", "write_corpus"]
