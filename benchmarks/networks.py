"""The networks whose compression is timed, made by either Keras."""

import numpy as np

from benchmarks.harness import SEED

NAMES = ("MLP", "CNN")


def make(keras, name, smoke=False):
    """Return a new network, of Keras 3 or Keras 2; of one Keras always the same weights."""
    keras.utils.set_random_seed(SEED)
    layers, width = keras.layers, 64 if smoke else 512
    if name == "MLP":
        hidden = [layers.Dense(width, activation="relu"), layers.Dense(width, activation="relu")]
        return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10)])
    blocks = []
    for filters in (width // 16, width // 8):
        convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        blocks += [convolution, layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(2)]
    return keras.Sequential([keras.Input((28, 28, 1)), *blocks, layers.Flatten(), layers.Dense(10)])


def batch(name):
    """Return inputs and class ids for one step."""
    rng = np.random.default_rng(SEED)
    shape = (128, 784) if name == "MLP" else (64, 28, 28, 1)
    return rng.normal(size=shape).astype("float32"), rng.integers(0, 10, size=shape[0])


def compiled(keras, model, jit_compile):
    """Compile a network as all contestants are."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss=loss, jit_compile=jit_compile)
    return model
