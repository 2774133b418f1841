"""The pictures that the parts of a model contribute."""

import keras
import numpy as np

from keras_kicks._errors import expect

CHILDREN = ("layers", "layer", "cell", "cells", "forward_layer", "backward_layer")


def contributors(model):
    """Return by name everything in a model that has a method `tensorboard_images`: layers, and losses it was given.

    Layers inside of others are found where Keras's own layers keep them: `layers`, `layer`, `cell`, `cells` and the
    two of `Bidirectional`.
    """
    found, seen = {}, set()

    def visit(part, path):
        if part is None or id(part) in seen:
            return
        seen.add(id(part))
        if callable(getattr(part, "tensorboard_images", None)):
            found[path] = part
        for name in CHILDREN:
            child = getattr(part, name, None)
            children = child if isinstance(child, (list, tuple)) else [child]
            for inner in children:
                if isinstance(inner, keras.layers.Layer):
                    visit(inner, f"{path}/{inner.name}" if path else inner.name)

    visit(model, "")
    for loss in keras.tree.flatten(model.loss):
        visit(loss, getattr(loss, "name", type(loss).__name__))
    return found


def checked(owner, tag, image):
    """Return an image as an array of shape (n, height, width, channels), or raise.

    Raises:
        ValueError: expected an image of shape (height, width, channels) or (n, height, width, channels) with 1, 3 or 4
            channels; entries in [0, 1] or of dtype uint8.
    """
    array = np.asarray(image)
    shape = array.shape
    rule = "an image of shape (height, width, channels) or (n, height, width, channels) with 1, 3 or 4 channels"
    expect(array.ndim in (3, 4) and shape[-1] in (1, 3, 4), owner, rule, tag=tag, shape=shape)
    if array.dtype != np.uint8:
        numbers = np.issubdtype(array.dtype, np.floating) and bool(((array >= 0) & (array <= 1)).all())
        remedy = "Divide by the largest value, or cast to uint8."
        rule = "an image of numbers in [0, 1] or of dtype uint8"
        expect(numbers, owner, rule, remedy, tag=tag, dtype=str(array.dtype))
        array = array.astype("float32")
    return array if array.ndim == 4 else array[None]
