"""HTML from the templates beside this file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aamn.visualization.charts import to_svg

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """A template of templates/ with its values; texts are escaped."""
    return _environment().get_template(template).render(values)


def _environment() -> Environment:
    """Templates write an RGB picture as {{ picture | jpeg }}, a chart as {{ figure | svg }} and a
    fraction as {{ value | percent }}."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(jpeg=jpeg, svg=to_svg, percent=_percent)
    return environment


def jpeg(picture: np.ndarray) -> str:
    """An RGB picture (H, W, 3) uint8 as a link that holds it."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    if not done:
        raise ValueError(f"cannot encode a picture of shape {picture.shape}")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _percent(value: float | None) -> str:
    """One decimal; "-" for what was not measured, None or nan."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"
