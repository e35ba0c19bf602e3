"""Packaging: two packages, aamn (matching and masks) and proposals (stage one)."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((HERE / "aamn/version.py").read_text(encoding="utf-8"), VERSION)
EXTRAS = {
    "supervision": ["supervision>=0.20"],
    "zeroshot": ["transformers>=4.57", "huggingface_hub>=0.34", "safetensors>=0.4"],
    "cluster": ["ray>=2.40"],
    "search": ["lancedb>=0.30"],
    "s3": ["s3fs>=2024.6"],
    "gs": ["gcsfs>=2024.6"],
    "export": ["torch>=2.6", "onnx>=1.16", "onnxruntime>=1.18"],
    "openvino": ["openvino>=2025.0", "nncf>=2.15"],  # for the comparison of backends
    "web": ["fastapi>=0.115", "uvicorn>=0.30"],
    "test": [
        *("hypothesis>=6", "mypy>=1.15", "pytest>=8", "pytest-xdist>=3", "ruff>=0.6"),
        *("supervision>=0.20", "ray>=2.40", "lancedb>=0.30", "s3fs>=2024.6"),
        *("moto[s3]>=5", "flask>=3", "flask-cors>=5"),  # an S3 server on loopback
        *("transformers>=4.57", "huggingface_hub>=0.34", "safetensors>=0.4"),
        *("fastapi>=0.115", "uvicorn>=0.30"),
        *("onnx>=1.16", "onnxruntime>=1.18"),
    ],
    "browser": ["fastapi>=0.115", "playwright>=1.45", "uvicorn>=0.30"],
    "mutants": ["mutmut>=3.8", "pytest-cov>=6"],
    "docs": ["mkdocs>=1.6", "mkdocs-material>=9.5", "mkdocstrings-python>=2"],
}

setup(
    name="aamn",
    version=VERSION["__version__"],
    description="Text-based video segmentation: actor and action modular networks",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["aamn", "aamn.*", "proposals", "proposals.*"]),
        *("aamn.configs", "aamn.configs.ablations", "aamn.configs.baselines"),
    ],
    package_dir={"aamn.configs": "configs"},  # recipes travel in the wheel
    package_data={
        "aamn": ["py.typed"],
        "aamn.report": ["templates/*"],
        "aamn.web": ["page/*"],
        "aamn.configs": ["*.yaml"],
        "aamn.configs.ablations": ["*.yaml"],
        "aamn.configs.baselines": ["*.yaml"],
        "proposals": ["py.typed", "FORMAT.md"],
    },
    entry_points={"console_scripts": ["aamn = aamn.cli.main:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "fsspec>=2024.6",
        "h5py>=3.10",
        "opencv-python-headless>=4.8",
        "av>=17",
        "scipy>=1.11",
        "omegaconf>=2.4",
        "pyyaml>=6",
        "gensim>=4.3",
        "pycocotools>=2.0.7",
        "pillow>=10",
        "tqdm>=4.66",
        "click>=8.1",
        "filelock>=4.2",
        "lightning-fabric>=2.4",
        "tensorboard>=2.16",
        "jinja2>=3.1",
        "matplotlib>=3.8",
    ],
    extras_require=EXTRAS,
)
