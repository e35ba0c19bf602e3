"""What is not there, or is something else."""

import pytest
from fault_cases import called, contents, refused

CASES = {  # name -> words (fields of the things in braces), what the line says
    "no video": (("segment", "{tmp}/no.mp4", "w1", "--bundle", "{bundle}"), r"no\.mp4"),
    "no bundle": (("segment", "{clip}", "w1", "--bundle", "{tmp}/b"), r"/b\b"),
    "no subcommand": (("segmnt", "{clip}"), "is segment meant"),
    "a detector for a bundle": (
        ("segment", "{clip}", "w1", "--bundle", "{detector}"),
        r"detector\.pt",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_and_nothing_is_touched(name, things, tmp_path, capsys):
    words, said = CASES[name]
    named = tuple(word.format(tmp=tmp_path, **vars(things)) for word in words)
    refused(capsys, named, said, (things.bundle, things.clip, tmp_path))


def test_what_is_right_works(things, tmp_path, capsys):
    before = contents(things.bundle, things.clip)
    found = called(
        capsys, "segment", things.clip, "w1 w2", "--bundle", things.bundle, "--out", tmp_path / "o"
    )
    assert found.code == 0, found.err
    assert len(list((tmp_path / "o").rglob("*.png"))) >= 7
    assert contents(things.bundle, things.clip) == before
