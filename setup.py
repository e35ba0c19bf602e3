"""Packaging: two packages, aamn (matching and masks) and proposals (stage one)."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "test": ["hypothesis>=6", "pytest>=8", "pytest-xdist>=3", "ruff>=0.6"],
}

setup(
    name="aamn",
    version="0.1.0",
    description="Text-based video segmentation: actor and action modular networks",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["aamn", "aamn.*", "proposals", "proposals.*"]),
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "h5py>=3.10",
        "opencv-python-headless>=4.8",
        "scipy>=1.11",
        "omegaconf>=2.3",
        "pyyaml>=6",
        "gensim>=4.3",
        "pycocotools>=2.0.7",
        "pillow>=10",
        "tqdm>=4.66",
        "lightning>=2.4",
        "tensorboard>=2.16",
    ],
    extras_require=EXTRAS,
)
