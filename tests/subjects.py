"""How a component of each kind is called, put into a model and differentiated, on every backend."""

import inspect

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def make(case, dtype=None):
    """Return a new component, the same in every call; a cell in the layer that runs it."""
    component = make_alone(case, dtype)
    if case.kind == "cell":
        # Not ours, which would not call the cell.
        return keras.layers.RNN(component, return_sequences=True, dtype=dtype)
    return component


def make_alone(case, dtype=None):
    """Return a new component, the same in every call."""
    keras.utils.set_random_seed(5)
    return case.make(dtype)


def call(case, component, inputs, training=False):
    """Call a component of any kind."""
    if case.kind in ("loss", "regularizer", "constraint"):
        return component(*inputs)
    if "training" in inspect.signature(getattr(component, "call", component)).parameters:
        return component(*inputs, training=training)
    return component(*inputs)


def variables(component):
    """Return all variables of a component, those of random states included; none for losses and functions."""
    return list(getattr(component, "variables", []))


def trainable(component):
    """Return the trainable variables of a component."""
    return list(getattr(component, "trainable_variables", []))


def built(case, dtype=None):
    """Return a new component whose variables exist and have their first values."""
    component = make(case, dtype)
    if case.kind in ("layer", "cell", "model"):
        call(case, component, symbols(case.inputs()))
    return component


def symbols(inputs, free=()):
    """Return symbolic inputs of the shapes of arrays, without the length of the first axis and of the free ones."""
    shapes = [[None if axis in free else size for axis, size in enumerate(x.shape)][1:] for x in inputs]
    return [keras.Input(shape, dtype=x.dtype.name) for shape, x in zip(shapes, inputs, strict=True)]


def model_of(case, component, free=()):
    """Return a compiled model with a component that has not been called, and its training data."""
    inputs = case.inputs()
    if case.kind == "model":
        return component, (inputs[0], (case.labels or ids_like)(inputs[0]))
    if case.kind == "loss":
        labels, predictions = inputs
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(predictions.shape[-1])])
        model.compile(keras.optimizers.SGD(0.1), component, jit_compile=False)
        return model, (np.random.default_rng(1).normal(size=(len(labels), 4)).astype("float32"), labels)
    if case.kind in ("regularizer", "constraint"):
        dense = keras.layers.Dense(inputs[0].shape[-1], **{f"kernel_{case.kind}": component})
        model = keras.Sequential([keras.Input(inputs[0].shape[:1]), dense])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        rng = np.random.default_rng(1)
        return model, [rng.normal(size=(8, n)).astype("float32") for n in inputs[0].shape]
    arguments = symbols(inputs, free)
    # A weight before the component, so that each trains something and passes a gradient on.
    last = max(place for place, x in enumerate(inputs) if np.issubdtype(x.dtype, np.floating))
    before = keras.layers.Dense(inputs[last].shape[-1])(arguments[last])
    output = call(case, component, [*arguments[:last], before, *arguments[last + 1 :]])
    if len(output.shape) == 1:
        output = keras.layers.Reshape((1,))(output)  # Keras's losses average over the last axis.
    model = keras.Model(arguments[0] if len(arguments) == 1 else arguments, output)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = inputs[0] if len(inputs) == 1 else list(inputs)
    return model, (x, np.zeros([len(inputs[0]), *output.shape[1:]], "float32"))


def ids_like(x):
    """Return three classes' ids, one for each row."""
    return (np.arange(len(x)) % 3).astype("int32")


def array(tensor):
    """Return a tensor as a float64 NumPy array."""
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float64" if BACKEND != "jax" else "float32")), "float64")


def value_and_gradients(case, component, inputs, training):
    """Return sum(y * c) for a fixed c, and its gradients by the trainable variables and the floating inputs.

    The variables that a call changes (random states) are set back, so that every call draws the same.
    """
    weights = trainable(component)
    places = [i for i, x in enumerate(inputs) if np.issubdtype(x.dtype, np.floating)]
    states = [v for v in variables(component) if not v.trainable]
    before = [np.array(ops.convert_to_numpy(v)) for v in states]  # A copy: torch shares the memory.
    tensors = [ops.convert_to_tensor(inputs[i]) for i in places]

    def scalar(tensors):
        arguments = list(inputs)
        for i, tensor in zip(places, tensors, strict=True):
            arguments[i] = tensor
        y = call(case, component, arguments, training)
        cotangent = np.random.default_rng(3).normal(size=tuple(y.shape))
        return ops.sum(y * ops.convert_to_tensor(cotangent, dtype=y.dtype))

    value, gradients = _BACKENDS[BACKEND](scalar, weights, tensors)
    for variable, old in zip(states, before, strict=True):
        variable.assign(old)
    return value, gradients, [*weights, *places]


def _tensorflow(scalar, weights, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = scalar(tensors)
    return value, tape.gradient(value, [*(w.value for w in weights), *tensors])


def _jax(scalar, weights, tensors):
    import jax

    def function(values, tensors):
        with keras.StatelessScope(list(zip(weights, values, strict=True))):
            return scalar(tensors)

    value, (by_weights, by_tensors) = jax.value_and_grad(function, argnums=(0, 1))([w.value for w in weights], tensors)
    return value, [*by_weights, *by_tensors]


def _torch(scalar, weights, tensors):
    import torch

    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    value = scalar(tensors)
    return value, torch.autograd.grad(value, [*(w.value for w in weights), *tensors], allow_unused=True)


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def compilers():
    """Return the ways to run a call compiled: functions of case, component, inputs and training."""
    if BACKEND == "tensorflow":
        return [_graph, _xla]
    return [_jit] if BACKEND == "jax" else []


def _graph(case, component, inputs, training, jit_compile=False):
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(x) for x in inputs]
    run = tf.function(lambda *tensors: call(case, component, tensors, training), jit_compile=jit_compile)
    return run(*tensors)


def _xla(case, component, inputs, training):
    return _graph(case, component, inputs, training, jit_compile=True)


def _jit(case, component, inputs, training):
    import jax

    states = variables(component)

    def function(values, inputs):
        with keras.StatelessScope(list(zip(states, values, strict=True))):
            return call(case, component, inputs, training)

    return jax.jit(function)([v.value for v in states], list(inputs))
