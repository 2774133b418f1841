"""The pictures that the parts of a model contribute."""

import keras
import numpy as np

from keras_kicks._errors import expect
from keras_kicks._layer_tree import draws, parts_by_path


def pictures(owner, model, functions):
    """Return the pictures of a model by tag, each of shape (n, height, width, channels).

    Args:
        owner: Name of the class that asks.
        model: A model; parts of it with a method `tensorboard_images` are asked.
        functions: Dict of functions from the model to a picture, by tag.

    Raises:
        RuntimeError: one of them failed.
        TypeError: a part returned no dict.
        ValueError: expected what `checked` says, and no two pictures of the same tag.
    """
    found = {}
    for path, part in contributors(model).items():
        where = f"{path or model.name}.tensorboard_images()"
        images = _ask(owner, where, part.tensorboard_images)
        expect(isinstance(images, dict), owner, f"a dict from {where}", error=TypeError, images=images)
        for tag, image in images.items():
            tag = f"{path}/{tag}".lstrip("/")
            found[tag] = checked(owner, tag, image)
    for tag, function in functions.items():
        expect(tag not in found, owner, "images of other tags than the model's own", "Rename it.", tag=tag)
        found[tag] = checked(owner, tag, _ask(owner, f"images[{tag!r}]", function, model))
    return found


def contributors(model):
    """Return by path all parts of a model that have a method `tensorboard_images`."""
    return {path: part for path, part in parts_by_path(model).items() if draws(part)}


def checked(owner, tag, image):
    """Return an image as an array of shape (n, height, width, channels), or raise.

    Raises:
        TypeError: it is no array.
        ValueError: expected an image of shape (height, width, channels) or (n, height, width, channels), none of them
            0, with 1, 3 or 4 channels; entries in [0, 1] or of dtype uint8.
    """
    try:
        array = keras.ops.convert_to_numpy(image) if keras.ops.is_tensor(image) else np.asarray(image)
        kind = keras.backend.standardize_dtype(array.dtype)
    except (TypeError, ValueError):
        kind = None
    expect(kind, owner, "an image that is an array", error=TypeError, tag=tag, image=image)
    shape = array.shape
    rule = "an image of shape (height, width, channels) or (n, height, width, channels) with 1, 3 or 4 channels"
    expect(array.ndim in (3, 4) and shape[-1] in (1, 3, 4) and array.size, owner, rule, tag=tag, shape=shape)
    if kind != "uint8":
        numbers = keras.backend.is_float_dtype(kind) and bool(((array >= 0) & (array <= 1)).all())
        remedy = "Divide by the largest value, or cast to uint8."
        rule = "an image of numbers in [0, 1] or of dtype uint8"
        expect(numbers, owner, rule, remedy, tag=tag, dtype=kind)
        array = array.astype("float32")
    return array if array.ndim == 4 else array[None]


def _ask(owner, source, function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        message = f"{owner}: expected a picture from {source}; got error={error!r}. Mend it, or pass image_freq=0."
        raise RuntimeError(message) from error
