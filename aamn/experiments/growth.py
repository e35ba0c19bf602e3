"""What an index and a sentence cost in several recipes, in one run, and how that grows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from aamn.experiments.benchmark import BenchmarkOptions, benchmark_job
from aamn.experiments.cost_model import exponent
from aamn.experiments.speed import seconds_of
from aamn.index.builder import build_index
from aamn.index.job import IndexJob, indexable
from aamn.index.video_index import VideoIndex
from aamn.inference.checkpoint import Loaded
from aamn.visualization.charts import Series, growth_chart, to_svg
from proposals.files import write_text

PAIRS = {
    "demo": ("aamn_demo", "detector_demo"),
    "mobile": ("aamn_mobile_shared", "detector_mobile_shared"),
    "shared ResNet-50-FPN": ("aamn_r50fpn_shared", "detector_r50fpn_shared"),
}
AS_LEARNED = "float32, streams as learned"
FORMS = (AS_LEARNED, "float32", "bfloat16")
ROUNDS = 3
FACTORS = (1, 2, 4, 8)
SENTENCE = "red dog jumping"


@dataclass
class Measured:
    """Seconds of an index a frame, and of a further sentence with all its masks, round by round."""

    index: list[float] = field(default_factory=list)
    sentence: list[float] = field(default_factory=list)


def measure_index(loaded: Loaded, job: IndexJob, sentences: int = 1) -> tuple[float, float]:
    """Seconds of an index a frame, and of so many further sentences with their masks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.h5"
        taken = seconds_of(lambda: build_index(job, path)) / len(job.frames)
        index = VideoIndex.read(path, loaded)
        texts = [SENTENCE] * sentences
        ask: Callable[[], object] = lambda: [t.masks() for t in index.query(texts)]  # noqa: E731
        ask()
        further = median(seconds_of(ask) for _ in range(ROUNDS))
        index.close()
    return taken, further


def speed_table(options: BenchmarkOptions) -> None:
    """Prints the pairs' costs in each form; rounds go through all of them in turn, so that what
    else the machine does meets all alike."""
    jobs = dict(_jobs(options))
    found = {key: Measured() for key in jobs}
    for number in range(ROUNDS + 1):
        for key, (loaded, job) in jobs.items():
            index, sentence = measure_index(loaded, job)
            if number:  # the first round warms up
                found[key].index.append(index)
                found[key].sentence.append(sentence)
    print(
        f"{options.frames} frames of {options.width}x{options.height}, medians of {ROUNDS} rounds"
    )
    print(f"{'':<52}{'s a frame':>12}{'/ as learned':>14}{'sentence, ms':>14}")
    for (pair, form), own in found.items():
        first = median(found[pair, AS_LEARNED].index)
        index, sentence = median(own.index), median(own.sentence)
        name = f"{pair}, {form}"
        print(f"{name:<52}{index:12.4f}{index / first:14.3f}{1000 * sentence:14.2f}")


def _jobs(
    options: BenchmarkOptions,
) -> Iterator[tuple[tuple[str, str], tuple[Loaded, IndexJob]]]:
    for pair, (config, detector) in PAIRS.items():
        for form in FORMS:
            precision = form if form != AS_LEARNED else "float32"
            own = replace(options, config=config, detector=detector, precision=precision)
            loaded, job = benchmark_job(own)
            if form == AS_LEARNED:
                job = replace(job, segmenter=indexable(loaded.segmenter))
            yield (pair, form), (loaded, job)


def growth(options: BenchmarkOptions, out: Path | None = None) -> None:
    """Prints how seconds grow with frames, proposals, sentences and the side of the network's
    square, and draws it into the SVG `out`."""
    found = {name: [one(factor) for factor in FACTORS] for name, one in _grown(options).items()}
    print(f"{'seconds at':<28}" + "".join(f"{f'{n}x':>10}" for n in FACTORS) + f"{'power':>8}")
    for name, values in found.items():
        cells = "".join(f"{value:10.4f}" for value in values)
        print(f"{name:<28}{cells}{exponent(FACTORS, values):8.2f}")
    if out is not None:
        series = [
            Series(name, [value / values[0] for value in values], FACTORS)
            for name, values in found.items()
        ]
        write_text(out, to_svg(growth_chart(series, "times as many", "times the seconds")))


def _grown(options: BenchmarkOptions) -> Mapping[str, Callable[[int], float]]:
    """What grows -> seconds at a factor."""
    config = benchmark_job(options)[0].config.aamn

    def index(changed: BenchmarkOptions) -> float:
        loaded, job = benchmark_job(changed)
        return measure_index(loaded, job)[0] * len(job.frames)

    def overridden(key: str, value: int) -> BenchmarkOptions:
        return replace(options, overrides=(*options.overrides, f"aamn.{key}={value}"))

    return {
        "frames": lambda n: index(replace(options, frames=n * options.frames)),
        "proposals": lambda n: index(overridden("proposals", n * config.proposals)),
        "sentences": lambda n: measure_index(*benchmark_job(options), n)[1],
        "side of the square": lambda n: index(overridden("size", n * config.size)),
    }
