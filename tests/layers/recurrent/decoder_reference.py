"""Decoders step by step, one sample after the other, in NumPy: for the tests of teacher forcing."""

import keras
import numpy as np
from keras import ops


def array(x):
    return np.array(ops.convert_to_numpy(x))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def ids(classes, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, classes, size=shape).astype("int32")


def filled(decoder, inputs_shape=None, scale=1.0):
    """Build a decoder, and give it random weights, large enough for every step to depend on the steps before."""
    if not decoder.built:
        decoder.build(inputs_shape=inputs_shape)
    for i, weight in enumerate(decoder.trainable_variables):
        weight.assign(scale * normal(*weight.shape, seed=100 + i))
    return decoder


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(cell, x, states):
    h = np.tanh(x @ array(cell.kernel) + states[0] @ array(cell.recurrent_kernel) + array(cell.bias))
    return h, [h]


def lstm(cell, x, states):
    h, c = states
    gates = x @ array(cell.kernel) + h @ array(cell.recurrent_kernel) + array(cell.bias)
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, [h, c]


def stacked(cell, x, states):
    new = []
    for inner, step in zip(cell.cells, (simple_rnn, lstm), strict=True):
        x, after = step(inner, x, [states.pop(0) for _ in range(1 if step is simple_rnn else 2)])
        new += after
    return x, new


def dense(cell, x, states):
    return np.tanh(x @ array(cell.kernel) + array(cell.bias)), []


# A cell, its step in NumPy and the widths of its states, by name.
CELLS = {
    "SimpleRNN": (lambda: keras.layers.SimpleRNNCell(4), simple_rnn, [4]),
    "LSTM": (lambda: keras.layers.LSTMCell(4), lstm, [4, 4]),
    "stack": (lambda: [keras.layers.SimpleRNNCell(3), keras.layers.LSTMCell(4)], stacked, [3, 4, 4]),
    "Dense": (lambda: keras.layers.Dense(4, "tanh"), dense, []),
}


class Reference:
    """The decoder with the weights of `decoder`; what is fed back are tokens, or vectors."""

    def __init__(self, decoder, cell_step, sizes):
        self.decoder, self.cell_step, self.sizes = decoder, cell_step, sizes
        self.table = None if getattr(decoder, "embedding", None) is None else array(decoder.embedding.embeddings)
        self.kernel, self.bias = (array(w) for w in (decoder.projection.kernel, decoder.projection.bias))
        self.tokens = hasattr(decoder, "vocabulary_size")

    def first(self):
        if not self.tokens:
            return np.zeros(self.decoder.units)
        start = self.decoder.start_token
        return self.decoder.vocabulary_size if start is None else start

    def zeros(self):
        return [np.zeros(size) for size in self.sizes]

    def step(self, fed, states, x=None):
        """One step of one sample; return the output and the new states."""
        vector = fed
        if self.tokens:
            count = self.decoder.vocabulary_size + (self.decoder.start_token is None)
            vector = (np.eye(count) if self.table is None else self.table)[fed]
        vector = vector if x is None else np.concatenate([vector, x])
        hidden, states = self.cell_step(self.decoder.cell, vector, list(states))
        return hidden @ self.kernel + self.bias, states

    def run(self, steps, labels=None, inputs=None, states=None, counts=None, coins=None, draws=None):
        """Run one sample over the steps that count, as if there were no others; return its outputs by step.

        With labels they are fed back; with coins too, where the coin is true, and else what the decoder chose. What was
        fed is in `fed`.
        """
        fed, states = self.first(), self.zeros() if states is None else states
        label, own, outputs, self.fed = fed, fed, {}, []
        for t in range(steps):
            if counts is not None and not counts[t]:
                continue
            if labels is not None:
                fed = label if coins is None or coins[t] else own
            x = inputs if inputs is None or inputs.ndim == 1 else inputs[t]
            self.fed.append(fed)
            outputs[t], states = self.step(fed, states, x)
            own = self.choose(outputs[t], None if draws is None else draws[t])
            label = None if labels is None else labels[t]
            fed = own
        return outputs

    def choose(self, output, draw):
        if not self.tokens:
            return output
        if draw is None:
            return int(output.argmax())
        probabilities = np.exp(output - output.max())
        return int(np.searchsorted(np.cumsum(probabilities) / probabilities.sum(), draw, side="right"))


def row(x, i):
    """The i-th row of an array, or of each of a list; None of None."""
    return None if x is None else [part[i] for part in x] if isinstance(x, list) else x[i]


def expect_rows(got, expected, counts=None, **tolerance):
    """Compare outputs of shape (batch, steps, units) with those of the reference, in the steps that count."""
    assert sum(len(outputs) for outputs in expected) == (
        got.shape[0] * got.shape[1] if counts is None else counts.sum()
    )
    for i, outputs in enumerate(expected):
        for t, output in outputs.items():
            np.testing.assert_allclose(got[i, t], output, **{"rtol": 1e-4, "atol": 1e-4, **tolerance})
