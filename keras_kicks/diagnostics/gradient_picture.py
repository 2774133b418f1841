"""A picture of gradients through time."""

import numpy as np

from keras_kicks._figures import new_figure, pixels


def gradient_picture(curves, size=(7.0, 4.0)):
    """Draw the median norm of each curve over the lag, on a logarithmic scale.

    Args:
        curves: Objects with `layer`, `lags`, `median`, `quantile`, `rate` and `verdict`.
        size: Width and height in units of 100 pixels.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        ImportError: there is no matplotlib.
    """
    figure = new_figure("gradient_picture", size)
    axes = figure.add_subplot(xlabel="lag: steps before the last", ylabel="||dL / dh||, median of samples")
    drawn = False
    for curve in curves:
        low, middle, high = (_drawable(values) for values in curve.quantile([0.1, 0.5, 0.9]))
        label = f"{curve.layer}: {curve.verdict}, x {curve.rate:.3f} a step"
        (line,) = axes.plot(curve.lags, middle, label=label)
        axes.fill_between(curve.lags, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        drawn = drawn or bool(np.isfinite(middle).any())
    if drawn:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return pixels(figure)


def _drawable(values):
    """Return what a logarithmic scale can show, and NaN for the rest."""
    return np.where((values > 0) & np.isfinite(values), values, np.nan)
