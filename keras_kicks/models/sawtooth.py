"""A deep network for a function that shallow ones need exponentially more units for."""

import keras
import numpy as np

from keras_kicks._errors import expect, expect_integer
from keras_kicks.models.approximators import input_dtype


def sawtooth_network(depth, dtype=None):
    """Return a ReLU network that is a sawtooth of 2^(depth - 1) equal teeth on [0, 1], from 0 to 1, exactly.

        tent(x) = 2 relu(x) - 4 relu(x - 1/2)          teeth(x) = tent(tent(... tent(x)))

    Each hidden layer has two units and folds the interval once more. It has 6 depth + 1 weights, and 2^depth straight
    pieces; a network with one hidden layer of n units has at most n + 1 of these. One with fewer than half as many
    pieces as the sawtooth is off by at least 1/2 somewhere.

    Args:
        depth: Hidden layers, >= 1.
        dtype: Of the layers. All values are exact in float32 for inputs on a grid of 2^-24.

    Returns:
        A built `keras.Sequential` of depth + 1 dense layers, (batch, 1) to (batch, 1), not compiled.

    Raises:
        TypeError: depth is no integer.
        ValueError: expected depth >= 1.

    Source:
        Telgarsky, "Representation benefits of deep feedforward networks", 2015, arXiv:1509.08101; "Benefits of depth in
        neural networks", 2016, arXiv:1602.04485.

    Example:
        >>> import numpy as np
        >>> model = sawtooth_network(3)
        >>> model.predict(np.linspace(0.0, 1.0, 9)[:, None], verbose=0)[:, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    """
    owner = "sawtooth_network"
    expect_integer(owner, depth=depth)
    expect(depth >= 1, owner, "depth >= 1", depth=depth)
    layers = [keras.layers.Dense(2, "relu", name=f"fold_{i + 1}", dtype=dtype) for i in range(depth)]
    output = keras.layers.Dense(1, name="sum", dtype=dtype)
    model = keras.Sequential([keras.Input((1,), dtype=input_dtype(dtype)), *layers, output], name=owner)
    tent, shifts = np.array([[2.0], [-4.0]]), np.array([0.0, -0.5])
    between = [np.repeat(tent, 2, axis=1), shifts] * (depth - 1)
    model.set_weights([np.ones((1, 2)), shifts, *between, tent, np.zeros(1)])
    return model
