"""What the explorers share: controls with labels and classes, and pictures for the browser."""

import io
from typing import Any

import ipywidgets as widgets
import torch
from PIL import Image

LARGEST_SENT = 384
"""Larger pictures are sent to the browser at this side, to keep the widgets' state small."""
_LABEL = {"description_width": "9.5em"}


def png(picture: torch.Tensor) -> bytes:
    """A picture, uint8 (3, s, s), as PNG for the browser."""
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    image.thumbnail((LARGEST_SENT, LARGEST_SENT))
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def with_class(widget: Any, name: str) -> Any:
    """The widget with the CSS class `thesis-<name>`, for tests in a browser."""
    widget.add_class(f"thesis-{name}")
    return widget


def control(make: type[widgets.DOMWidget], name: str, description: str, **options: Any) -> Any:
    """A control with a label, a tooltip of the same words, and a class for tests in a browser.

    Only these have tooltips: the front end of ipywidgets 8.1 cannot draw a widget with a tooltip and no description.
    """
    is_button = make is widgets.Button
    style = {} if is_button else {"style": _LABEL}
    layout = {"width": "16em" if is_button else "34em", "max_width": "100%"}
    widget = make(description=description, tooltip=description, layout=layout, **style, **options)
    return with_class(widget, name)
