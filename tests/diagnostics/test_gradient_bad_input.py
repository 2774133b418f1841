"""What `gradient_through_time` refuses."""

import re

import keras
import numpy as np
import pytest
from diagnostics.recurrent_models import data, sequential

from keras_kicks.diagnostics import gradient_through_time

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no gradients by inner tensors")

L = keras.layers


def gru():
    return sequential(L.GRU(3, name="gru"), L.Dense(1))


def masked_out():
    model = keras.Sequential([keras.Input((4, 2)), L.Masking(), L.GRU(3)])
    return gradient_through_time(model, np.zeros((2, 4, 2)))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: gradient_through_time(3, data()), TypeError, "expected a model of Keras 3; got model='builtins.int'."),
        (
            lambda: gradient_through_time(keras.Sequential([L.GRU(2)], name="m"), data()),
            ValueError,
            "expected a built model; got model='m'. Call it on a batch first.",
        ),
        (
            lambda: gradient_through_time(keras.Sequential([keras.Input((2,)), L.Dense(1)], name="m"), data()[:, 0]),
            ValueError,
            "expected a model with recurrent layers; got model='m'.",
        ),
        (
            lambda: gradient_through_time(gru(), data(), layers="lstm"),
            ValueError,
            "expected names of recurrent layers; got layers='lstm'. There are: 'gru'.",
        ),
        (
            lambda: gradient_through_time(gru(), data(), layers=["gru", "dense"]),
            ValueError,
            "expected names of recurrent layers; got layers='dense'. There are: 'gru'.",
        ),
        (
            lambda: gradient_through_time(gru(), data(), layers=[]),
            ValueError,
            "expected names of recurrent layers; got layers=[].",
        ),
        (
            lambda: gradient_through_time(gru(), data(), layers=[0]),
            TypeError,
            "expected a name or a list of names for layers; got layers=[0].",
        ),
        (
            lambda: gradient_through_time(gru(), data(samples=0)),
            ValueError,
            "expected x with a sample and a step in it; got shapes=[(0, 7, 2)].",
        ),
        (
            lambda: gradient_through_time(gru(), data(steps=0)),
            ValueError,
            "expected x with a sample and a step in it; got shapes=[(3, 0, 2)].",
        ),
        (masked_out, ValueError, "expected x with a sample and a step in it that is not masked; got layer='gru'."),
        (
            lambda: gradient_through_time(gru(), data(), state=1),
            ValueError,
            "expected a state that a cell has; got state=1. Numbers of states: {'gru': 1}.",
        ),
        (lambda: gradient_through_time(gru(), data(), state=-1), ValueError, "expected state >= 0; got state=-1."),
        (
            lambda: gradient_through_time(gru(), data(), state="h"),
            TypeError,
            "expected an integer for state; got state='h'.",
        ),
        (
            lambda: gradient_through_time(gru(), data(), np.ones((3, 1))),
            ValueError,
            "expected a compiled model; got compiled=False. Compile the model, or pass a loss.",
        ),
        (
            lambda: gradient_through_time(gru(), data(), loss=lambda y: y),
            ValueError,
            "expected a loss that is a scalar; got shape=(3, 1). Take the mean or the sum.",
        ),
    ],
)
def test_wrong_arguments_are_refused(run, error, message):
    with pytest.raises(error, match=re.escape(f"gradient_through_time: {message}")):
        run()


class Own(keras.Model):
    """A model that may leave its recurrent layer out, or hide it in a compiled function."""

    def __init__(self, call):
        super().__init__()
        self.gru = L.GRU(3, name="gru")
        self.gru.build((None, None, 2))
        self.run = call

    def call(self, x):
        return self.run(self, x)


def test_a_layer_that_does_not_run_is_refused():
    model = Own(lambda self, x: x[:, 0])
    model(data())
    message = "expected a model that runs its layers step by step; got layers=['gru']."
    with pytest.raises(RuntimeError, match=re.escape(f"gradient_through_time: {message}")):
        gradient_through_time(model, data())


@pytest.mark.tensorflow
def test_a_compiled_function_is_refused():
    import tensorflow as tf

    model = Own(lambda self, x: tf.function(self.gru)(x))
    model(data())
    message = "gradient_through_time: expected a model that runs eagerly; got layers in a tf.function."
    with pytest.raises((RuntimeError, ValueError), match=message):
        gradient_through_time(model, data())


def test_a_model_without_a_floating_output_needs_a_loss():
    inputs = keras.Input((4, 2))
    model = keras.Model(inputs, keras.ops.argmax(L.GRU(3)(inputs), axis=-1))
    with pytest.raises(ValueError, match="gradient_through_time: expected a model with a floating output"):
        gradient_through_time(model, data(steps=4))
