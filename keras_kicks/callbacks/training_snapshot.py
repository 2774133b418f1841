"""A copy of all that training changes in a model."""

import os

import numpy as np
from keras import ops

from keras_kicks._errors import expect

OWNER = "EarlyStopping"


class TrainingSnapshot:
    """The values of the variables of a model and of its optimizer.

    Those of the model are weights, statistics, and the state of random layers; those of the optimizer its moments and
    the count of its steps. Metrics are left out: `fit` resets them.

    Args:
        arrays: NumPy arrays, in the order of `training_variables`.
    """

    def __init__(self, arrays):
        self._arrays = arrays

    @classmethod
    def of(cls, model):
        """Return a snapshot of a model in training."""
        sync(model)
        return cls([np.array(ops.convert_to_numpy(v)) for v in training_variables(model)])

    def restore(self, model):
        """Give a model these values.

        Raises:
            ValueError: expected a model and an optimizer with variables of these shapes.
        """
        sync(model)
        optimizer = model.optimizer
        # Not that of a model whose training never builds it, such as Boosting's.
        missing = len(training_variables(model)) < len(self._arrays)
        if optimizer is not None and not optimizer.built and missing:
            optimizer.build(model.trainable_variables)
        variables = training_variables(model)
        got, wanted = [tuple(v.shape) for v in variables], [a.shape for a in self._arrays]
        remedy = "Restore into a model that is built and compiled as the one that was trained."
        expect(got == wanted, OWNER, f"variables of the shapes {wanted}", remedy, shapes=got)
        for variable, array in zip(variables, self._arrays, strict=True):
            variable.assign(array)

    def save(self, path):
        """Write an .npz file; there is the old one or the new one, and never half of it."""
        arrays = {}
        for i, array in enumerate(self._arrays):
            # NumPy has no name for bfloat16 and its like in a file.
            arrays[f"{i}.{array.dtype.name}"] = (
                array if array.dtype.isbuiltin == 1 else array.view(f"V{array.itemsize}")
            )
        write_whole(path, lambda file: np.savez(file, **arrays))

    @classmethod
    def load(cls, path):
        """Read such a file."""
        with np.load(path) as file:
            arrays = [file[key] for key in file.files]
            names = [key.partition(".")[2] for key in file.files]
        return cls([a.view(_dtype(name)) if a.dtype.kind == "V" else a for a, name in zip(arrays, names, strict=True)])


def training_variables(model):
    """Return the variables of a model and of its optimizer, each once."""
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *(optimizer.variables if optimizer is not None else ())]


def sync(model):
    """Have JAX hand over the state that it keeps to itself during an epoch, and take it back changed."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def write_whole(path, write):
    """Call a function with a binary file, which takes the place of `path` when all is written."""
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            write(file)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.remove(part)
        raise


def _dtype(name):
    """Return a dtype that NumPy itself does not know; Keras depends on the package that has it."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))
