"""One reader for files of tensors: what it gives back, and what it says of the others."""

import io
import pickle

import pytest
import torch

from proposals.errors import InputError
from proposals.weights import read_tensors


class Intruder:
    """Would run code where a file is unpickled without care."""

    def __reduce__(self):
        return print, ("this must not run",)


def whole_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(600), "epoch": 3}, buffer)
    return buffer.getvalue()


def test_tensors_and_plain_values_come_back(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(whole_file())
    content = read_tensors(str(path))
    assert content.pop("weight").tolist() == list(range(600)) and content == {"epoch": 3}


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", whole_file()[:2000], pickle.dumps(Intruder(), 2)],
    ids=["empty", "junk", "half", "code"],
)
def test_what_is_no_such_file_is_one_clear_line(tmp_path, capsys, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_tensors(path, "checkpoint", "; train one")
    assert str(error.value) == f"{path} is no checkpoint, or a damaged one; train one"
    assert not capsys.readouterr().out


def test_a_missing_file_and_a_folder_are_none(tmp_path):
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(InputError) as error:
            read_tensors(path)
        assert str(error.value) == f"no weight file at {path}"
