"""`aamn checks`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys

from aamn.cli.command_line import subcommand
from aamn.version import __version__

PACKAGES = (  # what setup.py installs
    *("torch", "torchvision", "numpy", "h5py", "opencv-python-headless", "scipy", "omegaconf"),
    *("pyyaml", "gensim", "pycocotools", "pillow", "tqdm", "click", "filelock"),
    *("lightning-fabric", "tensorboard"),
)
OPTIONAL = {  # module -> (what it is for, what installs it)
    "detectron2": ("the paper's own detector", "built from source, see docs/stage_one.md"),
    "supervision": ("track.to_supervision()", "pip install supervision"),
}
CODECS = {"H.264": "avc1", "MPEG-4": "mp4v", "VP9": "vp09", "AV1": "av01"}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _writable() -> list[str]:
    """The codecs that videos can be written in here."""
    import tempfile
    from pathlib import Path

    import cv2

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, code in CODECS.items():
            path = str(Path(folder) / f"{code}.mp4")
            writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*code), 25, (64, 64))
            if writer.isOpened():
                found.append(name)
            writer.release()
    return found


@subcommand("checks", "aamn checks")
def command() -> int:
    """Prints versions, devices, codecs and optional packages, and what is missing for what; the
    exit code is 1 when a package that is always needed is missing."""
    print(f"aamn {__version__}, Python {sys.version.split()[0]}, {platform.platform()}")
    versions = {package: _version(package) for package in PACKAGES}
    for package, version in versions.items():
        print(f"  {package:<26}{version}")
    if versions["torch"] != "missing":
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        print(
            f"devices: CPU with {torch.get_num_threads()} threads, {', '.join(names) or 'no GPU'}"
        )
    if versions["opencv-python-headless"] != "missing":
        print(f"videos can be written as: {', '.join(_writable())}")
    for module, (purpose, how) in OPTIONAL.items():
        there = importlib.util.find_spec(module) is not None
        print(f"  {module:<26}{'there' if there else f'missing: {how}'} ({purpose})")
    return int("missing" in versions.values())
