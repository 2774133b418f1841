"""Figures of matplotlib as arrays, without a display."""

import numpy as np


def new_figure(owner, size):
    """Return an empty figure.

    Args:
        owner: Name of the function that draws.
        size: Width and height in units of 100 pixels.

    Raises:
        ImportError: there is no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        remedy = "Install it, or write without the picture."
        raise ImportError(f"{owner}: expected matplotlib; got error={error!r}. {remedy}") from error
    return Figure(figsize=size, dpi=100, layout="constrained")


def pixels(figure):
    """Return a figure as a uint8 array of shape (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
