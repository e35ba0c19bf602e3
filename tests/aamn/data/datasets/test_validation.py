"""Training videos kept apart: both parts together are the split, and nothing else moves."""

import hashlib
import pickle

import numpy as np
import pytest
from PIL import Image

from aamn.config.schema import DataConfig
from aamn.data.datasets.registry import open_all, open_source, validation_split
from aamn.data.datasets.validation import check_share, in_validation
from proposals.errors import InputError

NAMES = [f"video{n:02d}" for n in range(20)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twenty training videos and one for testing, each with two sentences and one mask."""
    root = tmp_path_factory.mktemp("own")
    rows = ["video_id,instance_id,query,split"]
    for name in [*NAMES, "last"]:
        for folder in (root / "videos" / name, root / "masks" / name / "0"):
            folder.mkdir(parents=True)
            Image.fromarray(np.full((6, 8), 255, np.uint8)).save(folder / "00000.png")
        split = "test" if name == "last" else "train"
        rows += [f"{name},0,{word} {name},{split}" for word in ("dog", "cat")]
    (root / "sentences.csv").write_text("\n".join(rows) + "\n")
    return root


def test_names_alone_decide_and_a_larger_share_holds_the_smaller():
    names = [f"{n}" for n in range(20000)]
    tenth, third = ({n for n in names if in_validation(n, s)} for s in (0.1, 0.3))
    assert tenth < third
    assert len(tenth) == pytest.approx(2000, abs=200) and len(third) == pytest.approx(6000, abs=300)
    assert not any(in_validation(n, 0.0) for n in names) and all(
        in_validation(n, 1.0) for n in names
    )


def test_a_name_keeps_its_side_from_version_to_version():
    """Its place among all videos is the first 16 hexadecimal digits of its SHA-256."""
    for name in [*NAMES, "-abc_DEF", "café", ""]:
        place = int(hashlib.sha256(name.encode("utf-8")).hexdigest()[:16], 16) / 16**16
        assert in_validation(name, min(1.0, place + 1e-9)) and not in_validation(name, place - 1e-9)


@pytest.mark.parametrize(
    ("share", "allowed"), [(0, True), (0.99, True), (1, False), (-0.01, False)]
)
def test_a_share_leaves_videos_to_learn_from(share, allowed):
    if allowed:
        check_share(share, "some.share")
        return
    with pytest.raises(InputError, match=rf"some\.share: .* got {share}"):
        check_share(share, "some.share")


def test_the_split_named_for_training_is_the_one_that_is_parted(root):
    named = DataConfig("folder", str(root), train_split="test", validation_share=0.3)
    side, other = ("validation", "test") if in_validation("last", 0.3) else ("test", "validation")
    assert _videos(named, side) == ["last"]
    with pytest.raises(InputError, match=f"no video of the split {other!r} has a sentence"):
        open_source(named, other)
    assert _videos(named, "train") == NAMES


def _videos(data, split):
    return open_source(data, split).video_ids


def test_both_parts_are_the_training_split_and_the_others_stay(root):
    data = DataConfig("folder", str(root), validation_share=0.3)
    all_of_it = open_source(DataConfig("folder", str(root)), "train")
    parts = [pickle.loads(pickle.dumps(open_source(data, s))) for s in ("train", "validation")]
    kept, apart = parts
    assert sorted(kept.video_ids + apart.video_ids) == NAMES
    assert apart.video_ids == [n for n in NAMES if in_validation(n, 0.3)] != []
    for part in parts:
        assert [k.video_id for k in part.key_frames] == part.video_ids
        assert part.texts() == [f"{w} {v}" for v in part.video_ids for w in ("dog", "cat")]
        key = part.key_frames[0]
        assert len(part.targets(key)) == 2 and len(part.frames(key.video_id)) == 1
        assert part.video_path(key.video_id) == root / "videos" / key.video_id
        assert part.full_video_targets(key.video_id, 0).masks.all()
    assert sorted(kept.texts() + apart.texts()) == sorted(all_of_it.texts())
    assert open_source(data, "test").video_ids == ["last"]
    assert [len(source.video_ids) for source in open_all(data)] == [20, 1]
    with pytest.raises(
        InputError, match=f"training video {apart.video_ids[0]} is of the validation split"
    ):
        kept.sentences(apart.video_ids[0])
    with pytest.raises(
        InputError, match=f"training video {kept.video_ids[0]} is not of the validation split"
    ):
        apart.sentences(kept.video_ids[0])
    with pytest.raises(InputError, match="has no video nobody"):
        kept.sentences("nobody")


def test_settings_are_chosen_on_the_validation_split(root):
    assert validation_split(DataConfig()) == "test"
    assert validation_split(DataConfig(validation_share=0.1)) == "validation"
    assert validation_split(DataConfig(validation_share=0.1, validation_split="dev")) == "dev"
    with pytest.raises(InputError, match=r"no validation split: set data\.validation_share"):
        open_source(DataConfig("folder", str(root)), "validation")
    for share in (-0.1, 1.0):
        with pytest.raises(InputError, match=r"data\.validation_share: wanted a share"):
            open_source(DataConfig("folder", str(root), validation_share=share), "train")
