"""A picture of gradients over the depth of networks."""

import numpy as np

from keras_kicks._figures import new_figure, pixels


def gradient_flow_picture(reports, size=(7.0, 4.0)):
    """Draw the root mean square of the gradient in each layer, on a logarithmic scale.

    Args:
        reports: A `GradientReport` by label; a curve each.
        size: Width and height in units of 100 pixels.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        ImportError: there is no matplotlib.
    """
    figure = new_figure("gradient_flow_picture", size)
    axes = figure.add_subplot(ylabel="rms of dL / dW")
    drawn, names = False, ()
    for label, report in reports.items():
        layers = [layer for layer in report.layers if not np.isnan(layer.gradient_rms)]
        values = np.array([layer.gradient_rms for layer in layers])
        values = np.where((values > 0) & np.isfinite(values), values, np.nan)
        axes.plot(np.arange(1, len(values) + 1), values, marker="o", markersize=3, label=label)
        drawn = drawn or bool(np.isfinite(values).any())
        names = max(names, tuple(layer.path for layer in layers), key=len)
    if drawn:
        axes.set_yscale("log")
    if len(reports) == 1 and len(names) <= 40:
        axes.set_xticks(range(1, len(names) + 1), names, rotation=90, fontsize="x-small")
    else:
        axes.set_xlabel("layer, from the input")
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return pixels(figure)
