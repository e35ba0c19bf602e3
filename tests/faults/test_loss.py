"""What a kill, a full disk, a second process or a wrong place for the result may cost: nothing that
was there, and one line."""

import errno
import os
import resource
import select
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from fault_cases import called, contents, refused
from tiny_models import VOCABULARY, tiny_config, tiny_segmenter
from tiny_training import RUN, Samples, curve
from torch.utils.data import DataLoader, Dataset

from aamn.index.file import index_path
from aamn.jobs import index as index_job
from aamn.predictor import read_bundle, write_bundle
from aamn.training import run as training_run
from aamn.training.folder import run_folder
from aamn.training.loop import train
from proposals import outputs, store
from proposals.errors import CannotWrite, InputError
from proposals.files import hdf5_aside, locked, write_text
from proposals.outputs import check_output
from proposals.store import ProposalStore
from proposals.store_writer import write_proposals
from proposals.weights import save_tensors
from proposals.workers import end_with_parent, loaded, worker_pool

BOUND = 60  # seconds until a test that waits gives up; nothing is timed

TO_FILE = {  # what is done -> its words, before the file that is to be written
    "search": ("search", "{tmp}", "w1", "--bundle", "{bundle}", "--out"),
    "manifest": ("manifest", "--data", "{tmp}", "--out"),
    "extract": ("extract", "{clip}", "--detector", "{detector}", "--out"),
    "flow": ("flow", "{clip}", "--out"),
    "verify": ("verify", "--data", "{tmp}", "--out"),
    "verify's list": ("verify", "--data", "{tmp}", "--fix-list"),
    "parameters": ("parameters", "--out"),
    "evaluate": ("evaluate", "--checkpoint", "{checkpoint}", "--out"),
}
TO_FOLDER = {
    "segment": ("segment", "{clip}", "w1", "--bundle", "{bundle}", "--out"),
    "index": ("index", "{clip}", "--bundle", "{bundle}", "--out"),
    "bundle": ("bundle", "--checkpoint", "{checkpoint}", "--detector", "{detector}", "--out"),
    "train-detector": ("train-detector", "--manifest", "{checkpoint}", "--out"),
    "train": ("train", "--data", "{tmp}", "--out"),
    "synthetic": ("synthetic", "--out"),
    "evaluate's page": ("evaluate", "--checkpoint", "{checkpoint}", "--report"),
    "report": ("report", "--checkpoint", "{checkpoint}", "--out"),
    "table": ("table", "4", "--data", "{tmp}", "--out"),
    "attention": (
        *("attention", "--checkpoint", "{checkpoint}", "--video", "{clip}", "--query", "w1"),
        "--out",
    ),
    "demo": ("demo", "--out"),
    "configs": ("configs", "copy", "aamn_demo"),
}
FOLDER_WANTED, FILE_WANTED = "a file is where a folder is wanted", "a folder is where a file is"
PLACES = {  # what is wrong -> the place, and what the line says
    "below a file": ("{tmp}/file/x.h5", FOLDER_WANTED),
    "too long": ("{tmp}/" + 260 * "x" + "/x.h5", "the name is too long; choose a shorter one"),
    "read-only": ("{tmp}/x.h5", "the file system is read-only; choose another place"),
    "full": ("{tmp}/new/x.h5", "no space left on the device; make room"),
    "denied": ("{tmp}/x.h5", "permission denied; choose another place"),
}
DISKS = {"read-only": errno.EROFS, "full": errno.ENOSPC, "denied": errno.EACCES}
CASES = [
    *((words, *PLACES[name], name) for words in (*TO_FILE, *TO_FOLDER) for name in PLACES),
    *((words, "{tmp}/folder", FILE_WANTED, "a folder") for words in TO_FILE),
    *((words, "{tmp}/" + 245 * "x" + ".h5", "too long", "too long aside") for words in TO_FILE),
    *((words, "/dev/full", "/dev/full: it is no file", "a device") for words in TO_FILE),
    *((words, "{tmp}/file", FOLDER_WANTED, "a file") for words in TO_FOLDER),
]


@pytest.mark.parametrize(("program", "at", "said", "fault"), CASES)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    program, at, said, fault, things, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    if fault in DISKS:
        monkeypatch.setattr(outputs, "TemporaryFile", failing(DISKS[fault]))
    at = at.format(tmp=tmp_path)
    words = (TO_FILE | TO_FOLDER)[program]
    named = tuple(word.format(tmp=tmp_path, **vars(things)) for word in words)
    before = sorted(tmp_path.rglob("*"))
    refused(capsys, (*named, at), f"cannot write .*{said}", (tmp_path, things.bundle))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ("flow", "{clip}", "--set", "data.flow={tmp}/folder"),
        ("evaluate", "--checkpoint", "{tmp}/last.pt"),
        ("evaluate", "--checkpoint", "{tmp}/last.pt", "--full-video"),
    ],
)
def test_a_place_that_is_not_given_is_checked_too(words, things, tmp_path, capsys):
    for name in ("folder", "metrics.json", "full_video.json"):
        (tmp_path / name).mkdir()
    (tmp_path / "last.pt").write_bytes(things.checkpoint.read_bytes())
    named = tuple(word.format(tmp=tmp_path, **vars(things)) for word in words)
    refused(capsys, named, f"cannot write {tmp_path}/.*: {FILE_WANTED}", (tmp_path,))


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_place_whose_parents_are_missing_is_one_and_nothing_is_made(tmp_path):
    check_output(tmp_path / "a" / "b" / "x.h5")
    check_output(tmp_path / "a" / "b", folder=True)
    check_output(tmp_path, folder=True)
    assert not list(tmp_path.iterdir())


@contextmanager
def room(size):
    """No file may grow beyond so many bytes: what a full disk does, to C as to Python."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("program", ["bundle", "extract", "flow", "index", "segment"])
def test_a_disk_that_fills_up_meanwhile_is_one_line_and_costs_nothing(
    program, things, tmp_path, capsys
):
    words = (TO_FILE | TO_FOLDER)[program]
    named = [word.format(tmp=tmp_path, **vars(things)) for word in words]
    folder = program in TO_FOLDER
    out = tmp_path / ("out" if folder else "out.h5")
    if program == "bundle":
        write_bundle(out, things.detector, things.checkpoint, 0.25)
    kept = () if program in ("index", "segment") else (tmp_path,)  # finished blocks of clips stay
    with room(6000):
        refused(capsys, (*named, out), r"cannot write .*: no space left", (*kept, things.bundle))
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name or "lock" in path.name]
    assert called(capsys, *named, out).code == 0


def test_libraries_in_c_take_a_full_disk_without_a_crash(tmp_path):
    """HDF5 would crash when it closes many data sets of a file that cannot grow."""
    with room(50_000), pytest.raises(CannotWrite, match=r"x\.h5: no space"):  # noqa: SIM117
        with hdf5_aside(tmp_path / "x.h5") as file:
            data = file.create_dataset("a", (0, 100), "f4", maxshape=(None, 100), chunks=(1, 100))
            for number in range(300):
                data.resize(number + 1, 0)
                data[number] = number
    with room(50_000), pytest.raises(CannotWrite, match=r"x\.pt: no space"):
        save_tensors({"a": torch.zeros(100_000)}, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def test_a_line_of_the_log_that_has_no_room_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("aamn.training.journal.json.dumps", lambda _: 100_000 * "x")
    with room(90_000), pytest.raises(CannotWrite, match=r"log\.jsonl: no space left"):
        run(tmp_path)


class Killed(BaseException):
    """From now on the process does nothing more."""


STEPS = ("replace", "unlink", "fsync", "mkdir", "open", "rmdir")


@contextmanager
def killed_at(monkeypatch, number):
    """The operating system takes `number` calls, and then no more."""
    left = [number]

    def until_then(function):
        def call(*given, **named):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return function(*given, **named)

        return call

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(os, name, until_then(getattr(os, name)))
        yield


def every_kill(monkeypatch, work, check):
    """Kills the work before its first step, its second one ... and checks after each; how many."""
    for number in range(200):
        try:
            with killed_at(monkeypatch, number):
                work()
            return number
        except Killed:
            check(number)
    raise AssertionError("it does not end")


def bundle_at(path):
    found = read_bundle(path)
    return found.absent_threshold, found.detector.read_bytes(), found.segmenter.read_bytes()


def test_at_every_moment_a_whole_bundle_is_there(things, tmp_path, monkeypatch):
    out, other = tmp_path / "b", tmp_path / "segmenter.pt"
    save_tensors({**torch.load(things.checkpoint, weights_only=True), "iteration": 9}, other)
    write_bundle(out, things.detector, things.checkpoint, 1.0)
    wholes = [bundle_at(out)]
    write_bundle(tmp_path / "c", things.detector, other, 2.0)
    wholes.append(bundle_at(tmp_path / "c"))
    (out / "detector-notes.pt").write_text("the user's own")

    def check(_):
        assert bundle_at(out) in wholes

    steps = every_kill(monkeypatch, lambda: write_bundle(out, things.detector, other, 2.0), check)
    assert steps > 8 and bundle_at(out) == wholes[1]
    write_bundle(out, things.detector, other, 2.0)
    kept = {path.name.split("-")[0].removesuffix(".pt") for path in out.iterdir()}
    assert len(list(out.iterdir())) == 4 and kept == {"bundle.json", "detector", "segmenter"}


def test_a_bundle_s_maker_that_is_killed_leaves_the_one_before(things, tmp_path):
    out = tmp_path / "b"
    write_bundle(out, things.detector, things.checkpoint, 1.0)
    before = bundle_at(out)
    begun, tell = os.pipe()
    child = os.fork()
    if not child:
        replace = os.replace

        def stopped(source, target):
            if str(target).endswith("bundle.json"):
                os.write(tell, b"x")
                signal.pause()
            replace(source, target)

        os.replace = stopped
        write_bundle(out, things.detector, things.checkpoint, 2.0)
        os._exit(0)
    assert select.select([begun], [], [], BOUND)[0]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert bundle_at(out) == before and len(list(out.iterdir())) > 3
    write_bundle(out, things.detector, things.checkpoint, 3.0)
    assert bundle_at(out) == (3.0, *before[1:]) and len(list(out.iterdir())) == 3


@pytest.mark.parametrize("name", ["../x.pt", "/etc/passwd", "detector-1.pt", "segmenter.pt/x"])
def test_a_bundle_names_no_file_but_its_own(things, tmp_path, name):
    write_bundle(tmp_path, things.detector, things.checkpoint)
    record = (tmp_path / "bundle.json").read_text()
    (tmp_path / "bundle.json").write_text(record.replace(': "detector.pt"', f': "{name}"'))
    with pytest.raises(InputError, match=r"bundle\.json is damaged"):
        read_bundle(tmp_path)


def run(out, *overrides, **options):
    values = (*RUN, "train.optimiser.iterations=2", "train.checkpoint_every=2", *overrides)
    segmenter = tiny_segmenter(*values)
    samples = options.pop("samples", Samples)(segmenter)
    return train(tiny_config(*values), segmenter, samples, out, **options)


class Interrupted(Samples):
    """Samples of which the third batch never comes."""

    def __getitem__(self, place):
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken > 2:
            raise KeyboardInterrupt
        return super().__getitem__(place)


def without_curves(out):
    return {path: own for path, own in contents(out).items() if "tensorboard" not in path.parts}


def test_an_earlier_run_stays_whole_until_the_new_one_has_a_checkpoint(tmp_path):
    """And a second process is refused, which would double the log."""
    run(tmp_path)
    before = without_curves(tmp_path)
    with locked(tmp_path / ".lock", tmp_path), pytest.raises(InputError) as found:
        run(tmp_path, restart=True)
    assert f"being written by process {os.getpid()} on {os.uname().nodename}" in str(found.value)
    assert without_curves(tmp_path) == before
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, samples=Interrupted, restart=True)
    after = without_curves(tmp_path)
    assert {path: after[path] for path in before} == before
    assert len(curve(tmp_path / ".restarted")) == 1
    run(tmp_path, "seed=5", restart=True)
    after = without_curves(tmp_path)
    assert after.keys() == before.keys() and all(after[path] != before[path] for path in before)
    assert [line["iteration"] for line in curve(tmp_path)] == [1, 2]


def test_a_kill_while_the_new_run_takes_its_place_is_made_good(tmp_path, monkeypatch):
    names = ("config.yaml", "log.jsonl", "best.pt", "last.pt")

    def fill(out, with_best):
        for name in names:
            write_text(out / name, "old")
            if with_best or name != "best.pt":
                write_text(out / ".restarted" / name, "new")

    def settle(out):
        with run_folder(out, restart=False):
            pass

    for with_best in (True, False):
        for number in range(40):
            out = tmp_path / f"{with_best}{number}"
            fill(out, with_best)
            try:
                with killed_at(monkeypatch, number):
                    settle(out)
            except Killed:
                assert (out / "last.pt").read_text() in ("old", "new")
                settle(out)
            there = {path.name: path.read_text() for path in out.iterdir()}
            wanted = {name: "new" for name in names if with_best or name != "best.pt"}
            assert there == wanted, number


def test_half_a_last_line_of_the_log_is_cut_and_said(tmp_path, caplog):
    run(tmp_path)
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"iteration": 3, "total": 0.\xc3')
    run(tmp_path, "train.optimiser.iterations=4")
    assert [line["iteration"] for line in curve(tmp_path)] == [1, 2, 3, 4]
    assert f"{log}: 1 cut or damaged lines are left out" in caplog.text


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "log.jsonl", "config.yaml"])
def test_a_folder_in_the_place_of_a_run_s_file_is_found_before_the_training(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"cannot write .*{name}: {FILE_WANTED}"):
        run(tmp_path, samples=Interrupted)


PARTS = "language,streams,actor,action,heads,mask_head"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("train.freeze={parts}",), r"train\.freeze: nothing is left that learns"),
        (
            ("train.phases=[{{share: 0.5}}, {{share: 0.5, freeze: {parts}}}]",),
            r"train\.phases\[1\]\.freeze: .* are all that learns",
        ),
        (
            ("train.phases=[{{share: 0.5}}, {{share: 0.5, freeze: [no_part]}}]",),
            "there is no part 'no_part'",
        ),
        (
            ("train.phases=[{{share: 0.5}}, {{share: 0.5, losses: {{no_loss: 1.0}}}}]",),
            "no loss 'no_loss'",
        ),
    ],
)
def test_a_phase_in_which_nothing_learns_is_refused_at_the_start(tmp_path, overrides, said):
    children = [name for name, _ in tiny_segmenter(*RUN).named_children()]
    overrides = [value.format(parts=f"[{', '.join(children)}]") for value in overrides]
    with pytest.raises(InputError, match=said):
        run(tmp_path, *overrides)
    assert not (tmp_path / "last.pt").exists()


def test_an_empty_validation_split_is_refused_before_the_training(monkeypatch):
    monkeypatch.setattr(training_run, "_dataset", lambda *_: [])
    config = tiny_config("train.evaluate_every=1", "data.root=d", "data.validation_share=0.1")
    with pytest.raises(InputError, match=r"d: the split 'validation' is empty.*validation_share"):
        training_run._validation(config, None, VOCABULARY)


class Failing(Dataset):
    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 2

    def __getitem__(self, place):
        self.how()


def wrong():
    try:
        raise KeyError("deeper")
    except KeyError as error:
        raise InputError("clip.mp4: cannot be decoded: line 3; download it again") from error


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (wrong, r"^clip\.mp4: cannot be decoded: line 3; download it again$"),
        (Path("/no/such").read_text, r"^\[Errno 2\] No such file or directory: '/no/such'$"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "^a process that loads data died"),
    ],
)
def test_what_a_data_worker_finds_wrong_is_one_line(how, said):
    with pytest.raises(InputError, match=said):
        list(loaded(DataLoader(Failing(how), num_workers=1)))


def in_a_pool(fifo):
    with worker_pool(2, os.open, fifo, os.O_WRONLY) as pool:
        held = [pool.submit(os.getpid) for _ in range(2)]
        signal.pause()
    return held


class Holding(Dataset):
    """Each worker opens the FIFO, and has no sample ever."""

    def __init__(self, fifo):
        self.fifo = fifo

    def __len__(self):
        return 2

    def __getitem__(self, place):
        os.open(self.fifo, os.O_WRONLY)
        signal.pause()


def in_a_loader(fifo):
    list(DataLoader(Holding(fifo), batch_size=1, num_workers=2, worker_init_fn=end_with_parent))


@pytest.mark.parametrize("work", [in_a_pool, in_a_loader])
def test_workers_end_with_the_process_that_they_work_for(tmp_path, work):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent = os.fork()
    if not parent:
        try:
            work(str(fifo))
        finally:
            os._exit(1)
    signal.alarm(BOUND)  # its handler is the process's end: this is no test that may hang
    held = os.open(fifo, os.O_RDONLY)  # returns when a worker has opened it
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(held, 1) == b"", "every worker has let go of it"
    signal.alarm(0)
    os.close(held)


def test_where_the_file_system_has_no_locks_a_file_stands_in(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("fcntl.flock", failing(errno.EOPNOTSUPP))
    lock, target = tmp_path / "lock", tmp_path / "x.h5"
    with locked(lock, target), pytest.raises(InputError) as found, locked(lock, target):
        raise AssertionError
    assert f"is being written by process {os.getpid()} on " in str(found.value)
    assert "no file locks here" in caplog.text
    assert not list(tmp_path.iterdir())


def test_what_another_process_indexes_is_waited_for(things, tmp_path, capsys, monkeypatch, caplog):
    path = index_path(tmp_path, "clip")
    with ExitStack() as other:
        other.enter_context(locked(path.with_name(".clip.h5.lock"), path))
        monkeypatch.setattr(index_job, "wait_for_writer", lambda _: other.close())
        words = ("index", things.clip, things.other, "--bundle", things.bundle, "--out", tmp_path)
        assert called(capsys, *words).code == 0
    assert f"clip.h5 is being written by process {os.getpid()} on" in caplog.text
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clip.h5", "other.h5"]


def add(writer, video_id):
    box, one = np.array([[1, 1, 5, 5]], np.float32), np.ones(1, np.float32)
    writer.add(video_id, [box], [one], [np.zeros(1, np.int64)], (9, 9))


def test_a_reader_does_not_notice_that_parts_are_joined(tmp_path, monkeypatch):
    path, files_at = tmp_path / "p.h5", store._files_at
    writer = write_proposals(path, "d", classes=["a"])
    add(writer, "a")

    def joined_meanwhile(place):
        found = files_at(place)
        writer.close()
        return found

    monkeypatch.setattr(store, "_files_at", joined_meanwhile)
    assert ProposalStore.read(path).video_ids == ["a"]
    monkeypatch.undo()
    early = ProposalStore.read(path)
    with write_proposals(path, "d", classes=["a"]) as writer:
        add(writer, "b")
        part = ProposalStore.read(path)
    for reader in (early, part):
        assert reader.window("a", [0], 1).valid.all()
    assert part.window("b", [0], 1).boxes[0, 0].tolist() == [1, 1, 5, 5]
    Path(path).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"p\.h5 is no proposals file"):
        ProposalStore.read(path)
