"""Rows of a table are run one by one or side by side, and one that fails stops no other."""

import os

import pytest
from row_work import note

from aamn.config.schema import Config
from aamn.experiments.runs import run_rows


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_row_but_the_broken_one_is_done(jobs, tmp_path, caplog):
    runs = {tmp_path / name: Config(name=name) for name in ("one", "broken", "two")}
    failed = run_rows(note, runs, jobs)
    assert failed == {tmp_path / "broken": "cstm.size: wanted more"}
    assert f"{tmp_path / 'broken'}: cstm.size: wanted more" in caplog.text
    for name in ("one", "two"):
        done, process, threads = (tmp_path / name / "done").read_text().split()
        assert done == name
        assert (int(process) == os.getpid()) == (jobs == 1)
        if jobs == 2:
            assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)
            assert (tmp_path / name / "output.log").read_text() == f"this is {name}\n"


def test_what_is_no_user_s_mistake_ends_all_runs(tmp_path):
    done = []

    def work(config, folder):
        done.append(config.name)
        if config.name == "two":
            raise ZeroDivisionError

    runs = {tmp_path / name: Config(name=name) for name in ("one", "two", "three")}
    with pytest.raises(ZeroDivisionError):
        run_rows(work, runs, 1)
    assert done == ["one", "two"]
