"""The programs that make indexes and bundles, and those that ask them, on tiny videos."""

import eval_net
import torch
from tiny_models import WORDS
from tiny_videos import SIZE, Frames, Store, loaded

from aamn.data.source import Expression, KeyFrame
from aamn.structures import Target


class Source:
    """One video of noise; what is in it is called by words of the file of vectors."""

    key_frames = tuple(
        KeyFrame("v", frame, (Expression("v", 1, f"w3 {word}"),))
        for frame, word in ((1, "zebra"), (4, "purple"), (7, "zebra"))
    )

    def texts(self):
        return [one.text for frame in self.key_frames for one in frame.expressions]

    def frames(self, video_id):
        return Frames(9)

    def targets(self, key_frame):
        box = torch.tensor([5.0, 5, 20, 20])
        return (Target(1, box, torch.zeros(SIZE, dtype=torch.bool)),)


def test_new_words_score_the_same_through_indexes_as_directly(tmp_path, monkeypatch):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("purple 1 -2 .5 3 -1 2\nzebra -3 1 2 -.5 4 -2\n")
    model = loaded(f"words.vectors={vectors}")
    monkeypatch.setattr(eval_net, "load_segmenter", lambda *_: model)
    monkeypatch.setattr(eval_net, "open_source", lambda *_: Source())
    monkeypatch.setattr(eval_net.ProposalStore, "read", lambda _: Store())
    direct = eval_net.open_system("s.pt")
    indexed = eval_net.through_indexes(direct, tmp_path)
    for place in range(3):
        found, wanted = (one.answer(*one.sample_of(place)) for one in (indexed, direct))
        torch.testing.assert_close(found.scores.total, wanted.scores.total, atol=1e-5, rtol=0)
        assert wanted.scores.total.isfinite().any()
    assert len(direct.loaded.vocabulary) == WORDS + 2
