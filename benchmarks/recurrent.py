"""What does a train step of a recurrent layer cost, beside Keras, torch and its matrix products alone?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, products, tensorflow_step, torch_step
from keras_kicks import layers

OURS, KERAS, TORCH, FLOOR = "keras_kicks", "Keras", "torch", "its products, each of all steps at once"
VARIANTS = {
    "LSTM": {
        "peephole": lambda units: layers.LSTM(units, peephole="diagonal", return_sequences=True),
        "leaky": lambda units: layers.RNN(layers.LeakyCell(layers.LSTMCell(units)), return_sequences=True),
        "layer norm": lambda units: layers.LSTM(units, layer_norm=True, return_sequences=True),
        "coupled gates": lambda units: layers.LSTM(units, coupled_gates=True, return_sequences=True),
    },
    "GRU": {
        "reset before": lambda units: layers.GRU(units, reset_after=False, return_sequences=True),
        "leaky": lambda units: layers.RNN(layers.LeakyCell(layers.GRUCell(units)), return_sequences=True),
        "layer norm": lambda units: layers.GRU(units, layer_norm=True, return_sequences=True),
    },
}
TARGETS = {"peephole": 1.15, "reset before": 1.15, "leaky": 1.15, "layer norm": 1.5}


def run(smoke=False):
    """Time a step of LSTM(256) and of GRU(256) on (64, 100, 128), and their forward pass alone."""
    shape, units, rounds = ((4, 5, 8), 8, 3) if smoke else ((64, 100, 128), 256, 40)
    x = np.random.default_rng(SEED).normal(size=shape).astype("float32")
    return [result for name in VARIANTS for result in _compare(name, x, units, rounds)]


def _compare(name, x, units, rounds):
    import torch

    theirs, ours = (getattr(package, name)(units, return_sequences=True) for package in (keras.layers, layers))
    for layer in (theirs, ours):
        layer.build(x.shape)
    theirs.set_weights(ours.get_weights())
    module = getattr(torch.nn, name)(x.shape[-1], units, batch_first=True)
    module.load_state_dict({key: torch.tensor(value) for key, value in ours.to_torch().items()})
    title = f"{name}({units}) on {x.shape}"
    for jit in (False, True):
        contestants = {
            OURS: _step(ours, x, jit),
            KERAS: _step(theirs, x, jit),
            TORCH: torch_step(lambda x: module(x)[0], list(module.parameters()), [x]),
            FLOOR: products((x.shape[0] * x.shape[1], x.shape[2] + units, (4 if name == "LSTM" else 3) * units)),
        }
        expect_equal(contestants, OURS, KERAS)
        expect_equal(contestants, OURS, TORCH, gradients=False)
        for variant, make in VARIANTS[name].items():
            layer = make(units)
            layer.build(x.shape)
            contestants[variant] = _step(layer, x, jit)
        ratios = [Ratio(OURS, KERAS, 0.75), Ratio(OURS, TORCH, 1.0), Ratio(OURS, FLOOR)]
        ratios += [Ratio(variant, OURS, TARGETS.get(variant)) for variant in VARIANTS[name]]
        yield Result(f"{title}, {labelled(jit)}", "ms", race(contestants, rounds), ratios)
    forward = {OURS: _forward(ours, x), KERAS: _forward(theirs, x), TORCH: _torch_forward(module, x)}
    ratios = [Ratio(OURS, KERAS), Ratio(OURS, TORCH)]
    yield Result(f"{title}, forward pass alone, jit off", "ms", race(forward, rounds), ratios)


def _step(layer, x, jit):
    return tensorflow_step(lambda x: layer(x, training=True), layer.trainable_variables, [x], jit)


def _forward(layer, x):
    import tensorflow as tf

    run, x = tf.function(layer), tf.constant(x)
    return lambda: run(x)


def _torch_forward(module, x):
    import torch

    x = torch.tensor(x)

    def run():
        with torch.no_grad():
            return module(x)

    return run
