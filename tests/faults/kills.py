"""A thousand kills: every program is started, killed at a random moment once to three times, and
then left alone; what it leaves in the end must be what an undisturbed run leaves.

    PYTHONPATH=.:tests python tests/faults/kills.py [PROGRAM ...] [--kills N] [--seed N]

Programs run in forks of this process, so that a kill costs no import. Prints a row a program:
kills, trials that ended in something lost, or different, and temporary files left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock

import av
import h5py
import numpy as np
import torch
from test_end_to_end import DETECTOR, SEGMENTER, settings
from tqdm import tqdm

from aamn.cli.main import run

CORPUS = (
    *("train_videos=2", "test_videos=1", "missed_videos=0"),
    *("min_frames=12", "max_frames=13"),
)
MOST_KILLS = 3  # of one trial
LIMIT = 300  # seconds of one run


@dataclass(frozen=True)
class Program:
    """`words` are its arguments but for --out, `outputs` the paths below its folder that count."""

    words: Sequence[object]
    out: str = "out"
    before: Sequence[Sequence[object]] = ()  # calls that belong to the undisturbed state


@dataclass
class Tally:
    """What became of a program's trials."""

    kills: int = 0
    trials: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def programs(data: Path) -> dict[str, Program]:
    """What is killed, on the tiny demo in `data`."""
    corpus, weights = data / "corpus", data / "detector" / "detector.pt"
    clips = corpus / "Release" / "clips320H"
    clip = min(clips.glob("*.mp4"))
    boxes = ("--proposals", data / "proposals.h5", "--flow", data / "flow.h5")
    training = (*boxes, "--set", f"aamn.backbone.weights={weights}", *settings(SEGMENTER))
    bundle = ("--bundle", data / "bundle")
    ask = ("red dog", "a man")
    made = ("bundle", "--checkpoint", data / "aamn" / "last.pt", "--detector", weights)
    return {
        "extract": Program(("extract", clips, "--detector", weights), "p.h5"),
        "flow": Program(("flow", clips, "--workers", 0), "f.h5"),
        "index": Program(("index", clips, *bundle)),
        "segment": Program(("segment", clip, *ask, *bundle)),
        "bundle": Program(made),
        "bundle again": Program((*made, "--absent-threshold", 0.25), before=(made,)),
        "train": Program(
            ("train", "--config", "aamn_demo", "--data", corpus, *training)
            + ("--set", "train.checkpoint_every=1")
        ),
        "train-detector": Program(
            ("train-detector", "--config", "detector_demo", "--manifest", data / "train.json")
            + (*settings(DETECTOR), "--set", "finetune.iterations=6")
            + ("--set", "finetune.checkpoint_every=1", "--set", "finetune.workers=0")
        ),
    }


def make_data(data: Path) -> None:
    """The tiny demo that the programs work on."""
    corpus, weights = data / "corpus", data / "detector" / "detector.pt"
    boxes, flow = data / "proposals.h5", data / "flow.h5"
    learned = ("--set", f"aamn.backbone.weights={weights}", *settings(SEGMENTER))
    calls = (
        ("synthetic", "--out", corpus, "--workers", 1, *settings(CORPUS)),
        ("manifest", "--data", corpus, "--split", "train", "--out", data / "train.json"),
        ("train-detector", "--config", "detector_demo", *settings(DETECTOR))
        + ("--manifest", data / "train.json", "--out", data / "detector"),
        ("extract", "--data", corpus, "--detector", weights, "--out", boxes),
        ("flow", "--data", corpus, "--workers", 0, "--out", flow),
        ("train", "--config", "aamn_demo", *learned, "--data", corpus, "--proposals", boxes)
        + ("--flow", flow, "--out", data / "aamn"),
        ("bundle", "--checkpoint", data / "aamn" / "last.pt", "--detector", weights)
        + ("--out", data / "bundle"),
    )
    for words in calls:
        code = ended(started(words))
        if code:
            raise SystemExit(f"aamn {' '.join(map(str, words))} ended with {code}")


def started(words: Sequence[object], log: Path | None = None) -> int:
    """A process of its own, with its children in one group, that runs `aamn` with these words."""
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    code = 70
    try:
        code = run([str(word) for word in words])
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process that is left alone."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    killed(process)
    return 124


def killed(process: int) -> bool:
    """Kills a process and its children; whether it was still at work."""
    done, _ = os.waitpid(process, os.WNOHANG)
    if done:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def content(path: Path, out: Path) -> object:
    """What a file says, without its own folder's name and what depends on the hour."""
    if path.suffix == ".h5":
        return sorted(_hdf5(path))
    if path.suffix == ".pt":
        return _tensors(torch.load(path, weights_only=True, map_location="cpu"))
    if path.suffix in (".json", ".jsonl", ".yaml", ".csv", ".txt"):
        return path.read_text(encoding="utf-8").replace(str(out), "OUT")
    if path.suffix == ".mp4":  # x264's bytes differ from run to run
        with av.open(str(path)) as video:
            return [frame.to_ndarray(format="rgb24").shape for frame in video.decode(video=0)]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hdf5(path: Path) -> Iterator[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def add(name: str, item: h5py.Dataset | h5py.Group) -> None:
        for key, value in item.attrs.items():
            found.append((f"{name}@{key}", str(value)))
        if isinstance(item, h5py.Dataset):
            values = np.asarray(item[()])
            raw = values.tobytes() if values.dtype != object else str(values.tolist()).encode()
            found.append((name, f"{values.shape} {zlib.crc32(raw)}"))

    with h5py.File(path, "r") as file:
        add("/", file)
        file.visititems(add)
    return iter(found)


def _tensors(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {zlib.crc32(value.contiguous().numpy().tobytes())}"
    if isinstance(value, dict):
        return {str(key): _tensors(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_tensors(own) for own in value]
    return value


def is_temporary(path: Path) -> bool:
    """Whether a file is none that a user was promised. Locks stay, they are empty."""
    return path.name.endswith((".tmp", ".parts")) or ".tmp." in path.name


def result(folder: Path) -> tuple[dict[str, object], list[str]]:
    """Name -> content of the results below a folder, and the temporary files among them. Event
    files of TensorBoard bear the hour in their names."""
    files, left = {}, []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if is_temporary(path):
            left.append(name)
        elif path.is_file() and "tfevents" not in name and not path.name.endswith(".lock"):
            files[_plain(name)] = content(path, folder)
    return files, left


def _plain(name: str) -> str:
    """A bundle that was made again has names of its own."""
    path = Path(name)
    stem, _, rest = path.name.partition("-")
    ours = stem in ("detector", "segmenter", "words") and len(rest) < 16
    return str(path.with_name(stem + path.suffix)) if ours and rest else name


def _same(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """The names of files that differ; what a bundle's record says of its files' names may."""
    names = one.keys() | other.keys()
    return sorted(n for n in names if _known(n, one.get(n)) != _known(n, other.get(n)))


def _known(name: str, value: object) -> object:
    if name.endswith("bundle.json") and isinstance(value, str):
        record = json.loads(value)
        return {k: v for k, v in record.items() if k not in ("files", "replaced", "sha256")}
    if name.endswith("log.jsonl") and isinstance(value, str):
        lines = [json.loads(line) for line in value.splitlines()]
        return [{k: v for k, v in line.items() if "second" not in k} for line in lines]
    return value


def attack(name: str, program: Program, kills: int, rng: random.Random, work: Path) -> Tally:
    """Kills a program until there were so many kills."""
    tally = Tally()

    def prepared(folder: Path) -> list[object]:
        folder.mkdir(parents=True)
        for words in program.before:
            assert ended(started([*words, "--out", folder / program.out])) == 0
        return [*program.words, "--out", folder / program.out]

    # Once here: what is imported meanwhile, no fork imports again.
    assert run([str(word) for word in prepared(work / "first")]) == 0
    words = prepared(work / "calm")
    begun = time.monotonic()
    assert ended(started(words, work / "calm.log")) == 0, (work / "calm.log").read_text()
    duration = time.monotonic() - begun
    wanted, _ = result(work / "calm")
    with tqdm(total=kills, desc=name, unit="kill") as bar:
        while tally.kills < kills:
            folder = work / f"trial{tally.trials}"
            words = prepared(folder)
            for _ in range(rng.randint(1, MOST_KILLS)):
                process = started(words, folder.with_suffix(".log"))
                time.sleep(rng.uniform(0, duration))
                if killed(process):
                    tally.kills += 1
                    bar.update()
                if program.before and not _opens(folder / program.out):
                    tally.lost.append(folder.name)
            begun = time.monotonic()
            code = ended(started(words, folder.with_suffix(".log")))
            duration = min(duration, time.monotonic() - begun)  # of the least busy moment
            found, left = result(folder)
            differing = _same(wanted, found)
            tally.trials += 1
            tally.lost += [f"{folder.name}: exit code {code}"] if code else []
            tally.different += [f"{folder.name}: {n}" for n in differing] if not code else []
            tally.left += [f"{folder.name}: {n}" for n in left]
            if not code and not differing and not left:
                shutil.rmtree(folder)
    return tally


def _opens(bundle: Path) -> bool:
    """Whether a whole bundle is there."""
    from aamn.predictor import read_bundle
    from proposals.errors import InputError

    try:
        read_bundle(bundle)
    except InputError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("programs", nargs="*", help="default: all")
    parser.add_argument("--kills", type=int, default=1000, help="in all; default 1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="kept; default: a temporary folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no thread, and no lock that a killed fork could keep
    tqdm.set_lock(RLock())
    work = args.work or Path(tempfile.mkdtemp(prefix="kills-"))
    if not (work / "data" / "bundle").is_dir():
        make_data(work / "data")
    known = programs(work / "data")
    chosen = args.programs or list(known)
    tallies = {}
    for number, name in enumerate(chosen):
        share = args.kills // len(chosen) + (number < args.kills % len(chosen))
        folder = Path(tempfile.mkdtemp(prefix=name.replace(" ", "-"), dir=work))
        tallies[name] = attack(name, known[name], share, random.Random(args.seed), folder)
    print("| program | kills | trials | lost | different | left behind |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, tally in tallies.items():
        counts = (tally.kills, tally.trials, *map(len, (tally.lost, tally.different, tally.left)))
        print(f"| {name} |", " | ".join(map(str, counts)), "|")
    problems = [p for t in tallies.values() for p in (*t.lost, *t.different, *t.left)]
    print(*problems, sep="\n")
    print(f"work in {work}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
