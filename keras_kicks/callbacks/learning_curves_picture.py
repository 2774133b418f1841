"""A picture of learning curves."""

import numpy as np

from keras_kicks._figures import new_figure, pixels


def learning_curves_picture(train, validation, running=None, epochs=None, name="loss", title=None, size=(7.0, 4.0)):
    """Draw training and validation over the epochs, with the gap between them and the best epoch.

    Args:
        train: Values after each epoch, in inference mode.
        validation: Values of validation.
        running: Keras's running means in training mode; None to leave them out.
        epochs: Numbers of the epochs, from 1 by default.
        name: What it is.
        title: Of the picture.
        size: Width and height in units of 100 pixels.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        ImportError: there is no matplotlib.
    """
    figure = new_figure("learning_curves_picture", size)
    axes = figure.add_subplot(xlabel="epoch", ylabel=name, title=title)
    epochs = np.arange(1, len(train) + 1) if epochs is None else np.asarray(epochs)
    marker = "o" if len(epochs) < 30 else None
    style = {"marker": marker, "markersize": 3}
    axes.fill_between(epochs, train, validation, color="tab:red", alpha=0.10, linewidth=0, label="gap")
    if running is not None:
        axes.plot(epochs, running, color="tab:blue", linestyle=":", label="training, running mean of the epoch")
    axes.plot(epochs, train, color="tab:blue", label="training, inference mode", **style)
    axes.plot(epochs, validation, color="tab:red", label="validation", **style)
    if name == "loss" and np.isfinite(validation).any():
        best = int(np.nanargmin(np.where(np.isfinite(validation), validation, np.nan)))
        axes.axvline(epochs[best], color="grey", linewidth=1, linestyle="--", label=f"best epoch, {epochs[best]}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return pixels(figure)
