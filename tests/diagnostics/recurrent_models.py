"""Small recurrent models, and data for them."""

import keras
import numpy as np
from keras import ops

L = keras.layers


def data(samples=3, steps=7, features=2, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, steps, features)).astype("float32")


def sequential(*layers, features=2):
    return keras.Sequential([keras.Input((None, features)), *layers])


def randomize(model, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    model.set_weights([scale * rng.normal(size=weight.shape) for weight in model.weights])
    return model


class ReadoutCell(L.Layer):
    """h' = tanh(x W + h U) and o = h' V: the output is no state, and is made of it in the cell."""

    state_size, output_size = 3, 2

    def build(self, input_shape):
        self.w, self.u, self.v = (
            self.add_weight(shape=shape, name=name, initializer="glorot_uniform")
            for shape, name in (((input_shape[-1], 3), "w"), ((3, 3), "u"), ((3, 2), "v"))
        )

    def call(self, inputs, states):
        h = ops.tanh(ops.matmul(inputs, self.w) + ops.matmul(states[0], self.u))
        return ops.matmul(h, self.v), [h]
