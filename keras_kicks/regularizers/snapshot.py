"""The values that weights had."""

import hashlib
import weakref

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks._weight_paths import weights_by_path

# Layers that hold values, by the mark of these: copies in the same process take them from there.
_HOLDERS = weakref.WeakValueDictionary()


class Snapshot:
    """Values by path, or what a config says of them.

    Args:
        config: Dict with the `shapes` and dtypes by path, and the `mark` of the values.
        values: Dict of arrays by path, or None.
    """

    def __init__(self, config, values=None):
        self.config, self._values = config, values

    def variables(self, holder):
        """Create variables of a layer with the values, or with NaN where nobody has them, and return them by path."""
        values, self._values = self._values, None
        if values is None and self.config["mark"] in _HOLDERS:
            others = _HOLDERS[self.config["mark"]]
            values = dict(
                zip(self.config["shapes"], map(ops.convert_to_numpy, others.non_trainable_weights), strict=True)
            )
        made = {}
        for path, (shape, dtype) in self.config["shapes"].items():
            value = np.full(shape, np.nan) if values is None else values[path]
            made[path] = holder.add_weight(
                shape=tuple(shape),
                initializer=lambda shape, dtype=None, value=value: ops.cast(value, dtype),
                dtype=dtype,
                trainable=False,
                name=path.replace("/", "_") or "weight",
            )
        _HOLDERS.setdefault(self.config["mark"], holder)
        return made


def values_of(owner, other):
    """Return a `Snapshot` of a layer's weights, of a variable or of an array; a snapshot as it is."""
    if isinstance(other, Snapshot):
        return other
    if isinstance(other, keras.layers.Layer):
        expect(other.built, owner, "a layer that is built", "Call it first, or build it.", other=other.name)
        floating = keras.backend.is_float_dtype
        variables = {path: weight for path, weight in weights_by_path(other).items() if floating(weight.dtype)}
    else:
        number = ops.is_tensor(other) or isinstance(other, (keras.Variable, np.ndarray))
        kind = type(other).__name__
        expect(number, owner, "a layer, a model, a variable or an array", error=TypeError, other=kind)
        # In the width that the backend has for it: JAX has no float64 unless told so.
        variables = {"": ops.convert_to_tensor(other) if isinstance(other, np.ndarray) else other}
    dtypes = {path: keras.backend.standardize_dtype(variable.dtype) for path, variable in variables.items()}
    # NumPy has no bfloat16 of its own; float32 holds every value of it.
    values = {
        path: np.array(ops.convert_to_numpy(ops.cast(x, "float32") if dtypes[path] == "bfloat16" else x))
        for path, x in variables.items()
    }
    mark = hashlib.sha256()
    for path, value in values.items():
        mark.update(f"{path} {dtypes[path]} {value.shape} ".encode())
        mark.update(np.ascontiguousarray(value).tobytes())
    shapes = {path: [list(value.shape), dtypes[path]] for path, value in values.items()}
    return Snapshot({"shapes": shapes, "mark": mark.hexdigest()}, values)
