"""Weights of torch's recurrent modules in the order of Keras's, and back."""

import numpy as np

from keras_kicks._errors import expect


def split_torch(owner, state, suffix, needed):
    """Return the arrays of one layer and direction of a torch module.

    Args:
        owner: Name of who asks.
        state: What `module.state_dict()` returns, or a dict of arrays by the same names.
        suffix: Such as "l0" or "l1_reverse".
        needed: Names without suffix that must be there.
    """
    found = {name.rpartition(f"_{suffix}")[0]: value for name, value in state.items() if name.endswith(f"_{suffix}")}
    missing = [f"{name}_{suffix}" for name in needed if name not in found]
    listed = ", ".join(f"{name}_{suffix}" for name in needed)
    expect(not missing, owner, f"weights {listed}", "Pass module.state_dict().", names=sorted(state))
    return {name: _array(value) for name, value in found.items()}


def reordered(matrix, order):
    """Return a matrix whose blocks of columns, or a vector whose blocks, are in another order."""
    blocks = np.split(matrix, len(order), axis=-1)
    return np.concatenate([blocks[k] for k in order], axis=-1)


def expect_shape(owner, name, value, shape):
    """Raise ValueError unless an array has the shape of the weight that it is for."""
    expect(value.shape == tuple(shape), owner, f"{name} of shape {tuple(shape)}", shape=value.shape)


def _array(value):
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
