"""Models that are exported in the tests, with inputs for them."""

import keras
import numpy as np

from keras_kicks.layers import DropConnect, GroupNormalization, MaxoutDense, RReLU

layers = keras.layers


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def dense():
    stack = [layers.Dense(128, activation="relu"), layers.Dense(128, activation="relu"), layers.Dense(4)]
    return keras.Sequential([keras.Input((8,)), *stack]), drawn(20, 8)


def deferred():
    """No Input, but one call on five samples."""
    model, x = (
        keras.Sequential([layers.Dense(16, activation="tanh"), keras.Sequential([layers.Dense(4)])]),
        drawn(20, 8),
    )
    model(x[:5])
    return model, x


def convolution():
    stack = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.DepthwiseConv2D(3)]
    stack += [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack]), drawn(20, 8, 8, 1)


def ours():
    stack = [layers.Conv2D(8, 3), GroupNormalization(2), RReLU(), DropConnect(layers.Conv2D(4, 3), 0.3)]
    stack += [layers.Dropout(0.5), layers.Flatten(), MaxoutDense(8, 2), layers.Dense(4)]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack]), drawn(20, 8, 8, 1)


def attention():
    inputs = keras.Input((6, 8))
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, layers.LayerNormalization()(x + inputs)), drawn(6, 6, 8)


def unrolled():
    return keras.Sequential([keras.Input((5, 8)), layers.LSTM(7, unroll=True), layers.Dense(3)]), drawn(20, 5, 8)


def recurrent():
    return keras.Sequential([keras.Input((5, 8)), layers.LSTM(7, return_sequences=True), layers.GRU(3)]), drawn(
        20, 5, 8
    )


def tokens():
    x = np.random.default_rng(0).integers(0, 300, (20, 5))
    stack = [layers.Embedding(300, 8), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((5,), dtype="int32"), *stack]), x


def branches():
    """Inputs in another order than that of their names, one of them with a blank in it; two outputs."""
    first, second = keras.Input((3,), name="zeta"), keras.Input((5,), name="alpha 2")
    joined = layers.Concatenate()([first, second])
    model = keras.Model([first, second], [layers.Dense(4)(joined), layers.Dense(2)(second)])
    return model, {"zeta": drawn(20, 3), "alpha_2": drawn(20, 5, seed=1)}


def dictionary():
    first, second = keras.Input((3,), name="zeta"), keras.Input((5,), name="alpha")
    joined = layers.Concatenate()([first, second])
    outputs = {"sum": layers.Dense(4)(joined), "difference": layers.Dense(2)(second)}
    return keras.Model({"zeta": first, "alpha": second}, outputs), {"zeta": drawn(20, 3), "alpha": drawn(20, 5, seed=1)}


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """Takes and returns a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(6, activation="relu")
        self.dropout = layers.Dropout(0.5)

    def call(self, inputs, training=None):
        x = self.dropout(self.hidden(inputs["a"]) - self.hidden(inputs["b"]), training=training)
        return {"total": keras.ops.sum(x, axis=-1, keepdims=True), "each": x}


def subclassed():
    model, x = Subclassed(), {"a": drawn(20, 3), "b": drawn(20, 3, seed=1)}
    model(x)
    return model, x


MODELS = {
    make.__name__: make
    for make in (
        dense,
        deferred,
        convolution,
        ours,
        attention,
        unrolled,
        recurrent,
        tokens,
        branches,
        dictionary,
        subclassed,
    )
}


class Quantized(layers.Layer):
    """A Dense layer as quantization-aware training has it: fake-quantized kernel, input and output."""

    def __init__(self, units, first=False, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = first

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        import tensorflow as tf

        quantize = tf.quantization.fake_quant_with_min_max_vars
        x = quantize(x, -4.0, 4.0) if self.first else x
        return quantize(x @ quantize(self.kernel, -1.0, 1.0, narrow_range=True), -6.0, 6.0)


def expected(model, x):
    """Return what the model predicts, in a list; inputs by the names that the file has."""
    if isinstance(x, dict) and not isinstance(getattr(model, "input", x), dict):
        x = list(x.values())
    return keras.tree.flatten(model.predict(x, verbose=0))
