"""Which weight of a model is which of another."""

import keras

from keras_kicks._errors import expect
from keras_kicks._layer_tree import parts_by_path


def weights_by_path(layer):
    """Return the weights of a layer or model by path: the names of the layers within it, and the weight's own.

    Such as "encoder/dense/kernel". A weight that several layers share has the path of the last of them.
    """
    holder = {}
    for path, part in parts_by_path(layer).items():
        if isinstance(part, keras.layers.Layer):
            # Layers come before those within them.
            holder.update({id(weight): path for weight in part.weights})
    found = {}
    for weight in layer.weights:
        path = f"{holder[id(weight)]}/{weight.name}".lstrip("/")
        while path in found:
            path += "_"
        found[path] = weight
    return found


def matched(owner, own, others, paths=None, both=False):
    """Return the weights to tie, as pairs of paths.

    Args:
        owner: Name for the error messages.
        own: Dict of a model's variables by path.
        others: Dict of the other's by path: variables, or whatever has a `shape`.
        paths: Dict from paths of layers or weights to those of the other; a list for equal ones; None for all weights
            that are trained: by equal paths or, if the two have as many weights of the same names and shapes in the
            same order, in this order.
        both: Whether every trained weight of the other must have its counterpart too, without `paths`.

    Returns:
        A dict from paths to paths.

    Raises:
        ValueError: expected weights that match in path and shape; paths of weights that there are.
    """
    if paths is not None:
        pairs = _mapped(owner, own, others, paths)
    else:
        trained = [path for path, weight in own.items() if weight.trainable]
        pairs = {path: path for path in trained}
        if not all(path in others for path in trained) and _same_order(own, others):
            order = dict(zip(own, others, strict=True))
            pairs = {path: order[path] for path in trained}
        _expect_all(owner, pairs.values(), others, "in the other")
        if both:
            there = {path: None for path, weight in others.items() if weight.trainable}
            _expect_all(owner, there, pairs.values(), "in the model")
    unlike = {
        path: (tuple(own[path].shape), tuple(others[other].shape))
        for path, other in pairs.items()
        if tuple(own[path].shape) != tuple(others[other].shape)
    }
    expect(not unlike, owner, "weights of the same shapes", REMEDY, unlike=unlike)
    expect(bool(pairs), owner, "weights to tie", "", weights=list(own))
    return pairs


REMEDY = "Pass `paths`, from those of the model to those of the other, for the weights to tie."


def _mapped(owner, own, others, paths):
    pairs = {}
    for path, other in (paths if isinstance(paths, dict) else dict.fromkeys(paths)).items():
        other = path if other is None else other
        within = [name for name in own if name == path or name.startswith(f"{path}/")]
        expect(bool(within), owner, "paths of weights or layers of the model", path=path, weights=list(own))
        for name in within:
            if own[name].trainable or name == path:
                pairs[name] = other + name[len(path) :]
    lacking = [other for other in pairs.values() if other not in others]
    expect(not lacking, owner, "paths of the other's weights", lacking=lacking, weights=list(others))
    return pairs


def _same_order(own, others):
    def listed(weights):
        return [(path.rpartition("/")[2], tuple(weight.shape)) for path, weight in weights.items()]

    return listed(own) == listed(others)


def _expect_all(owner, paths, there, where):
    lacking = [path for path in paths if path not in there]
    expect(not lacking, owner, f"weights of the same paths {where}", REMEDY, lacking=lacking, weights=list(there))
