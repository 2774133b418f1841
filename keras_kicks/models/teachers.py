"""The teachers of a distiller, which it runs but does not hold as its own."""

import os

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.models.cache_keys import fingerprint
from keras_kicks.models.output_taps import OutputTaps
from keras_kicks.models.teacher_cache import TeacherCache


class Teachers:
    """Runs teachers in inference mode, and keeps what they compute.

    Args:
        models: List of models.
        layer_names: Layers to return the outputs of; every teacher has all of them.
        weights: Weight of each, >= 0, or None for equal weights.
        owner: Name of the class whose error messages these are.

    Raises:
        TypeError: a weight is no number.
        ValueError: expected a weight >= 0 for each teacher, one of them positive; names of layers of each.
    """

    def __init__(self, models, layer_names, weights, owner):
        weights = weights_for(len(models), owner, teacher_weights=weights)
        expect(sum(weights) > 0, owner, "a positive weight for one teacher", teacher_weights=weights)
        self.models = models
        self.weights = [weight / sum(weights) for weight in weights]
        self._layer_names = layer_names
        self._taps = [OutputTaps(model, layer_names, owner, "teacher") for model in models]
        self._cache = None
        self._compiled = None
        specs = [taps.spec() for taps in self._taps]
        self._structure = None if None in specs else tuple(specs)

    def __len__(self):
        return len(self.models)

    def spec(self):
        """Return symbolic tensors in the structure of what a call returns, or None if a teacher has none."""
        return self._structure

    def __call__(self, x):
        """Return for each teacher `{"output": ..., "features": {layer name: ...}}`, without a gradient."""
        outputs = tuple(taps(x, training=False) for taps in self._taps)
        return keras.tree.map_structure(ops.stop_gradient, outputs)

    def unpacked(self, leaves, x):
        """Return the flat list of cached outputs for the inputs `x` in the structure of a call."""
        if self._structure is None:
            # Subclassed models tell the structure only when called; in a graph these operations are pruned.
            self._structure = keras.tree.map_structure(lambda leaf: 0, self(x))
        return keras.tree.pack_sequence_as(self._structure, leaves)

    def cache(self, where):
        """Return the cache in memory ("memory") or in a directory: the last one, if it is the same and still right.

        Raises:
            TypeError: `where` is no path.
            ValueError: expected teachers that are built; a path that is new, empty or a cache of these teachers.
        """
        owner = "Distiller.fit"
        is_path = isinstance(where, (str, os.PathLike))
        expect(is_path, owner, '"memory" or a path', error=TypeError, teacher_cache=where)
        expect(str(where) != "", owner, '"memory" or a path', teacher_cache=where)
        for model in self.models:
            remedy = "Call it on a batch first, or load its weights."
            expect(model.built, owner, "teachers that are built, with teacher_cache", remedy, teacher=model.name)
        mark = fingerprint(self.models, self._layer_names)
        path = None if where == "memory" else os.path.abspath(where)
        same = self._cache is not None and (self._cache.path, self._cache.fingerprint) == (path, mark)
        if not same or (path is not None and not os.path.exists(path)):
            self._cache = TeacherCache(self._arrays, mark, path)
        return self._cache

    def _arrays(self, x):
        """Run the teachers on a batch of arrays; return their outputs as a flat list of arrays."""
        if self._compiled is None:
            self._compiled = _compiled(lambda x: keras.tree.flatten(self(x)))
        return [_to_numpy(leaf) for leaf in self._compiled(x)]


def listed(value):
    """Return a list or a tuple as a list, anything else as the only entry of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def weights_for(count, owner, **got):
    """Return a list of `count` floats from None (all 1), a list, or a number if one is needed."""
    ((name, weights),) = got.items()
    if weights is None:
        return [1.0] * count
    weights = listed(weights)
    expect(len(weights) == count, owner, f"{count} {name}", **{name: weights})
    for weight in weights:
        expect_number(owner, **{name: weight})
        expect(weight >= 0, owner, f"{name} >= 0", **{name: weights})
    return [float(weight) for weight in weights]


def _compiled(function):
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def _to_numpy(tensor):
    # NumPy has no bfloat16 of its own and would not save it; float32 holds every value of it.
    half = keras.backend.standardize_dtype(tensor.dtype) == "bfloat16"
    return ops.convert_to_numpy(ops.cast(tensor, "float32") if half else tensor)
