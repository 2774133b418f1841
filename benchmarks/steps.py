"""Train steps to time: forward and backward pass, in TensorFlow and in torch."""

import os

import numpy as np

from benchmarks.harness import SEED


def tensorflow_step(function, weights, inputs, jit_compile):
    """Return a run of one step: y = function(*inputs), and the gradients of sum(y * c) by inputs and weights.

    The run returns y and the list of gradients, first those by the floating inputs.
    """
    import tensorflow as tf

    # A call then returns when its work is done.
    tf.config.experimental.set_synchronous_execution(True)
    tensors = [tf.constant(x) for x in inputs]
    cotangent = tf.constant(_cotangent(function(*tensors).shape))

    # Inputs are arguments, and the value is returned, for nothing to be folded or left out.
    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(cotangent, *tensors):
        sources = [x for x in tensors if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = function(*tensors)
        gradients = tape.gradient(y, [*sources, *weights], output_gradients=cotangent)
        if any(gradient is None for gradient in gradients):
            raise ValueError("a gradient is missing: the step would be too cheap")
        return y, gradients

    return lambda: step(cotangent, *tensors)


def torch_step(function, weights, inputs):
    """Return the same for torch, which runs eagerly, on as many threads as TensorFlow."""
    import torch

    torch.set_num_threads(os.cpu_count())
    tensors = [torch.tensor(x, requires_grad=np.issubdtype(x.dtype, np.floating)) for x in inputs]
    leaves = [*(x for x in tensors if x.requires_grad), *weights]
    cotangent = torch.tensor(_cotangent(function(*tensors).shape))

    def run():
        y = function(*tensors)
        return y, torch.autograd.grad(y, leaves, cotangent)

    return run


def fit_step(model, x, y):
    """Return a run of one step of a compiled model of either Keras, on the same batch every time.

    It is the function that `fit` calls for each batch.
    """
    import tensorflow as tf

    batch = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    model.make_train_function()
    return lambda: model.train_function(batches)


def _cotangent(shape):
    return np.random.default_rng(SEED + 1).normal(size=tuple(shape)).astype("float32")


def products(*sizes):
    """Return a run of what a step multiplies, forward and backward, and of nothing else: the floor.

    Args:
        *sizes: Of each kernel the rows that it is applied to in all, its inputs and its outputs.
    """
    import tensorflow as tf

    def tensors(rows, inputs, outputs):
        return [tf.random.normal(shape) for shape in ((rows, inputs), (inputs, outputs), (rows, outputs))]

    @tf.function
    def run(kernels):
        return [(a @ w, tf.matmul(d, w, transpose_b=True), tf.matmul(a, d, transpose_a=True)) for a, w, d in kernels]

    kernels = [tensors(*size) for size in sizes]
    return lambda: run(kernels)


def reads_and_adds(*shapes):
    """Return a run of what a penalty does with the memory if nothing is read twice: the floor, by torch.

    Weights of these shapes are read for the sum of their squares, and added, times a factor, to as many gradients.
    """
    import torch

    torch.set_num_threads(os.cpu_count())
    pairs = [(torch.randn(shape), torch.randn(shape)) for shape in shapes]

    def run():
        for weights, gradients in pairs:
            torch.dot(weights.view(-1), weights.view(-1))
            gradients.add_(weights, alpha=1e-9)

    return run


def expect_equal(contestants, *names, gradients=True):
    """Raise unless the runs of these contestants return the same numbers, to 1e-4 of the largest of a tensor.

    Args:
        contestants: Dict of runs of a step.
        *names: Names of those to compare.
        gradients: Whether to compare the gradients too, or the values alone.
    """
    first, *others = ([y, *(parts if gradients else [])] for y, parts in (contestants[name]() for name in names))
    for name, other in zip(names[1:], others, strict=True):
        for expected, value in zip(map(_array, first), map(_array, other), strict=True):
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def _array(tensor):
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor)


def labelled(jit_compile):
    """Return how a setting is called in the tables."""
    return "jit on" if jit_compile else "jit off"
