"""`aamn checks`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
import sys
from typing import Literal

from aamn.cli.command_line import subcommand
from aamn.config.zeroshot import PublishedConfig
from aamn.version import __version__

PACKAGES = (  # what setup.py installs
    *("torch", "torchvision", "numpy", "fsspec", "h5py", "opencv-python-headless", "av", "scipy"),
    *("omegaconf", "pyyaml", "gensim", "pycocotools", "pillow", "tqdm", "click", "filelock"),
    *("lightning-fabric", "tensorboard", "jinja2", "matplotlib"),
)
OPTIONAL = {  # module -> (what it is for, what installs it)
    "detectron2": ("the paper's own detector", "built from source, see docs/stage_one.md"),
    "lancedb": ("a library of videos: aamn library", "pip install 'aamn[search]'"),
    "ray": ("jobs on a cluster: --engine ray", "pip install 'aamn[cluster]'"),
    "s3fs": ("s3:// places", "pip install 'aamn[s3]'"),
    "onnx": ("aamn export", "pip install 'aamn[export]'"),
    "onnxruntime": ("exported networks", "pip install 'aamn[export]'"),
    "openvino": ("aamn benchmark --backends", "pip install 'aamn[openvino]'"),
    "fastapi": ("aamn web", "pip install 'aamn[web]'"),
    "supervision": ("track.to_supervision()", "pip install supervision"),
    "transformers": ("the zero-shot system's image-text model", "pip install 'aamn[zeroshot]'"),
}
CODECS = {"H.264": "h264", "HEVC": "hevc", "AV1": "av1", "VP9": "vp9", "GIF": "gif"}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _codecs(mode: Literal["r", "w"]) -> str:
    """The codecs that videos can be read ("r") or written ("w") in here."""
    import av

    found = []
    for name, codec in CODECS.items():
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            found += [name] if av.Codec(codec, mode) else []
    return ", ".join(found)


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
    if versions["av"] != "missing":
        print(f"videos can be read as: {_codecs('r')}; written as: {_codecs('w')}")
    print("public weights of --bundle zeroshot, and their licences:")
    for name, licence in PublishedConfig().licences.items():
        print(f"  {name} ({licence})")
    for module, (purpose, how) in OPTIONAL.items():
        there = importlib.util.find_spec(module) is not None
        print(f"  {module:<26}{'there' if there else f'missing: {how}'} ({purpose})")
    return int("missing" in versions.values())
