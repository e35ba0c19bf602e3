"""The jobs in earnest, on the demo's videos (`make cluster`): a Ray cluster of a head and two
workers on loopback whose workers, and then whose driver, are killed; S3 on loopback; inserts into a
library that are killed; one process of two threads against two of one. Each part says what it saw.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = "AAMN_CLUSTER_RUN"  # in the environment of all that is started here
TOKEN = secrets.token_hex(8)
HOST = "127.0.0.2"  # Ray rewrites 127.0.0.1
PYTHON = [sys.executable, "-m"]
KILLS = 3


def environment(**more: str) -> dict[str, str]:
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    own = {MARK: TOKEN, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "RAY_USAGE_STATS_ENABLED": "0", **more}


def free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def aamn(*words: object, **more: str) -> None:
    subprocess.run([*PYTHON, "aamn", *map(str, words)], env=environment(**more), check=True)


def begun(*words: object, **more: str) -> subprocess.Popen:
    return subprocess.Popen([*PYTHON, *map(str, words)], env=environment(**more))


def indexes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


def compare(what: str, folder: Path, wanted: dict[str, bytes]) -> None:
    found = indexes(folder)
    different = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
    print(f"{what}: {len(found)} of {len(wanted)} indexes, different: {different or 'none'}")
    if different:
        sys.exit(1)


@contextmanager
def ended(*started: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        for one in reversed(started):
            one.terminate()
        for one in started:
            one.wait()


@contextmanager
def cluster() -> Iterator[str]:
    """A head without cores, and two workers of one."""
    port = free_port()
    with ExitStack() as nodes:
        dashboard = "--include-dashboard=false"
        nodes.enter_context(node("--head", f"--port={port}", "--num-cpus=0", dashboard))
        for _ in range(2):
            nodes.enter_context(node(f"--address={HOST}:{port}", "--num-cpus=1"))
        yield f"{HOST}:{port}"


@contextmanager
def node(*words: str) -> Iterator[None]:
    """A node of the cluster; Ray gives it 30 seconds to start, so it is tried again."""
    small = ["--object-store-memory=80000000", "--disable-usage-stats", "--num-gpus=0"]
    command = [*PYTHON, "ray.scripts.scripts", "start", "--block", f"--node-ip-address={HOST}"]
    for _ in range(5):
        started = subprocess.Popen(
            [*command, *small, *words],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert started.stdout is not None
        if any("Ray runtime started" in line for line in started.stdout):
            threading.Thread(target=started.stdout.read, daemon=True).start()
            with ended(started):
                yield
            return
        started.wait()
    sys.exit("a node of the cluster does not start; is the machine busy?")


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((HOST, port)) == 0


def until(done: Callable[[], object], seconds: float = 600) -> None:
    begin = time.monotonic()
    while not done():
        if time.monotonic() - begin > seconds:
            sys.exit("waited in vain")
        time.sleep(0.05)


def actors() -> list[int]:
    """The processes of the cluster that was started here, which do the work."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = TOKEN.encode() in (process / "environ").read_bytes()
            if ours and (process / "cmdline").read_bytes().startswith(b"ray::_Actor"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def ray_with_kills(given: list[object], out: Path, wanted: dict[str, bytes], driver: bool) -> None:
    """Indexes by a cluster while a worker is killed three times, or the driver once."""
    with cluster() as address:
        words = ["aamn", "index", *given, "--out", out, "--engine", "ray", "--address", address]
        running, kills = begun(*words), 0
        with ended(running):
            for part in range(1, 2 if driver else KILLS + 1):
                until(lambda part=part: len([*out.glob("*.h5")]) >= part * len(wanted) // 5)
                victims = [running.pid] if driver else actors()[:1]
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
                    kills += 1
            running.wait()
        if driver:
            running = begun(*words)
            running.wait()
        who = "the driver" if driver else "a worker"
        compare(f"ray, {who} killed {kills} times, exit code {running.returncode}", out, wanted)


def s3(given: list[object], videos: Path, work: Path, query: str, bundle: Path) -> None:
    """From and to s3://, against s3:// to a folder; both searched."""
    port = free_port()
    server = begun("moto.server", "-H", HOST, "-p", port)
    keys = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_REGION": "us-east-1"}
    there = {**keys, "AWS_ENDPOINT_URL": f"http://{HOST}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    with ended(server):
        until(lambda: answers(port))
        os.environ.update(there)
        import s3fs

        store = s3fs.S3FileSystem()
        store.mkdir("corpus")
        for line in videos.read_text().splitlines():
            store.put_file(line, f"corpus/videos/{Path(line).name}")
        own = {**there, "AAMN_CACHE": str(work / "cache")}
        words = ["index", "s3://corpus/videos", "--bundle", bundle]
        aamn(*words, "--out", work / "local", **own)
        aamn(*words, "--out", "s3://corpus/index", "--library", "s3://corpus/library", **own)
        (work / "fetched").mkdir()
        store.get("corpus/index/", str(work / "fetched"), recursive=True)
        compare("s3", work / "fetched", indexes(work / "local"))
        asked = [query, "--bundle", bundle, "--top", "40", "--out"]
        for place in (work / "local", "s3://corpus/index", "s3://corpus/library"):
            aamn("search", place, *asked, work / "found.json", **own)
            text = (
                (work / "found.json").read_text().replace(str(work / "local"), "s3://corpus/index")
            )
            kept = work / "first.json"
            if not kept.exists():
                kept.write_text(text)
            same = "as in the folder" if same_hits(kept, work / "found.json") else "OTHERS"
            print(f"search of {place}: {same}")


def same_hits(one: Path, two: Path) -> bool:
    """Equal videos and frames, scores to rounding."""
    import json

    found = [
        [(hit["video_id"], hit["frames"], round(hit["score"], 4)) for hit in hits]
        for path in (one, two)
        for hits in json.loads(path.read_text()).values()
    ]
    return found[0] == found[1]


def inserts(index: Path, work: Path, times: int) -> None:
    """Kills inserts; the rows there are those of the acknowledged videos, and of one more at
    most."""
    from aamn.search.library import Library
    from aamn.search.rows import rows_of

    rows, place, known = len(rows_of(index).levels), work / "library", 0
    for _ in range(times):
        words = ["-m", "row_work_library", str(place), str(index), str(known)]
        running = subprocess.Popen(
            [sys.executable, *words], env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert running.stdout is not None
        end = known + 1 + secrets.randbelow(20)
        for line in running.stdout:
            known = int(line) + 1
            if known >= end:
                running.kill()
                break
        known += sum(1 for _ in running.stdout)
        running.wait()
        there = len(Library(place))
        print(f"killed after {known} acknowledged videos: {there} rows, {rows} each")
        if there not in (known * rows, (known + 1) * rows):
            sys.exit(1)
        known = there // rows


def paired(given: list[object], work: Path, count: int, rounds: int) -> None:
    """Videos a minute of one process of two threads and of two of one, in turns."""
    for number in range(rounds):
        rates = []
        for processes, threads in ((1, "2"), (2, "1")):
            out, begin = work / f"{number}-{processes}", time.perf_counter()
            more = {"OMP_NUM_THREADS": threads}
            aamn("index", *given, "--out", out, "--processes", processes, **more)
            rates.append(60 * count / (time.perf_counter() - begin))
        ratio = rates[1] / rates[0]
        print(
            f"videos a minute: {rates[0]:.1f} by one process of two threads, {rates[1]:.1f} by two "
            f"of one: {ratio:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="the folder of `make demo`")
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10, help="of inserts")
    parser.add_argument("--rounds", type=int, default=3, help="of the paired timing; 0: none")
    parser.add_argument("--parts", nargs="+", default=["ray", "driver", "s3", "inserts", "paired"])
    given = parser.parse_args()
    clips = sorted((given.demo.absolute() / "corpus/Release/clips320H").glob("*.mp4"))
    bundle = given.demo.absolute() / "bundle"
    with tempfile.TemporaryDirectory(prefix="aamn-cluster-") as folder:
        work = Path(folder)
        videos = work / "videos.txt"
        videos.write_text("\n".join(map(str, clips[-given.videos :])) + "\n")
        words: list[object] = [videos, "--bundle", bundle]
        aamn("index", *words, "--out", work / "one", "--processes", 1)
        wanted = indexes(work / "one")
        if "ray" in given.parts:
            ray_with_kills(words, work / "ray", wanted, driver=False)
        if "driver" in given.parts:
            ray_with_kills(words, work / "driver", wanted, driver=True)
        if "s3" in given.parts:
            s3(words, videos, work, "red dog jumping", bundle)
        if "inserts" in given.parts:
            inserts(next((work / "one").glob("*.h5")), work, given.kills)
        if "paired" in given.parts:
            paired(words, work, len(wanted), given.rounds)


if __name__ == "__main__":
    main()
