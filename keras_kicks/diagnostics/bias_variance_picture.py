"""A picture of the parts of the squared loss."""

import numpy as np

from keras_kicks._figures import new_figure, pixels

COLORS = {
    "bias^2": "tab:blue",
    "bias^2 + noise": "tab:blue",
    "noise": "tab:gray",
    "variance": "tab:orange",
    "loss": "black",
}


def tag_of(part):
    """Return the name of a part as TensorBoard takes it."""
    return part.replace("^2", "_squared").replace(" + ", " and ").replace(",", "").replace(" ", "_")


def bias_variance_picture(result, size=None):
    """Draw the parts as bars with standard errors, and for a single input the predictions over it.

    Args:
        result: A `BiasVariance`.
        size: Width and height in units of 100 pixels.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        ImportError: there is no matplotlib.
    """
    x = result.x_test
    line = x is not None and x.dtype.kind in "iuf" and x.size == len(x) and result.predictions.shape[-1] == 1
    figure = new_figure("bias_variance_picture", size or ((10.0, 4.0) if line else (5.5, 4.0)))
    axes = figure.subplots(1, 2) if line else [figure.subplots()]
    names, inner = list(result.parts)[::-1], result.split
    values = [result[name].value for name in names]
    errors = np.nan_to_num([result[name].standard_error for name in names])
    colors = [COLORS["variance"] if name in inner else COLORS[name] for name in names]
    bars = axes[0].barh(range(len(names)), values, xerr=errors, color=colors, error_kw={"ecolor": "0.4", "capsize": 3})
    for bar, name in zip(bars, names, strict=True):
        bar.set_alpha(0.45 if name in inner else 0.9)
    axes[0].set_yticks(range(len(names)), [f"of {name}" if name in inner else name for name in names])
    axes[0].set_xlabel("squared loss, +- standard error")
    axes[0].axvline(0, color="black", linewidth=0.8)
    axes[0].grid(axis="x", alpha=0.3)
    if line:
        _draw_predictions(axes[1], result)
    return pixels(figure)


def _draw_predictions(axes, result):
    order = np.argsort(result.x_test.ravel(), kind="stable")
    x, all_of_them = result.x_test.ravel()[order], result.predictions[..., order, 0]
    curves, truth = all_of_them.reshape(-1, len(x)), result.targets[:, order, 0]
    shown = curves[:: -(-len(curves) // 50)]
    axes.plot(x, shown.T, color=COLORS["variance"], alpha=0.25, linewidth=0.8)
    axes.plot([], [], color=COLORS["variance"], label="trained models")
    axes.plot(x, curves.mean(axis=0), color=COLORS["bias^2"], linewidth=2, label="their mean")
    axes.plot(x, truth.mean(axis=0), color="black", linestyle="--", label="target")
    # A few models that run away at the ends do not decide the scale.
    low, high = np.quantile(np.concatenate([curves.ravel(), truth.ravel()]), [0.01, 0.99])
    axes.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low) + 1e-12)
    axes.set_xlabel("x_test")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
