"""Train steps to time: forward and backward pass, in TensorFlow and in torch."""

import numpy as np


def tensorflow_step(function, weights, inputs, jit_compile):
    """Return a run of one step: the gradients of sum(function(*inputs) * c) by weights and floating inputs."""
    import tensorflow as tf

    tensors = [tf.constant(x) for x in inputs]
    shape = tuple(function(*tensors).shape)
    cotangent = tf.constant(np.random.default_rng(1).normal(size=shape).astype("float32"))

    # Inputs are arguments and the value is returned, for nothing to be folded or left out.
    def step(cotangent, *tensors):
        floating = [x for x in tensors if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floating)
            y = function(*tensors)
            value = tf.reduce_sum(y * cotangent)
        return y, tape.gradient(value, [*floating, *weights])

    # On the CPU a function returns when its work is done.
    compiled = tf.function(step, jit_compile=jit_compile, autograph=False)
    return lambda: compiled(cotangent, *tensors)


def torch_step(function, weights, inputs):
    """Return the same for torch, with as many threads as there are cores."""
    import torch

    tensors = [torch.tensor(x, requires_grad=np.issubdtype(x.dtype, np.floating)) for x in inputs]
    leaves = [*(x for x in tensors if x.requires_grad), *weights]
    shape = tuple(function(*tensors).shape)
    cotangent = torch.tensor(np.random.default_rng(1).normal(size=shape).astype("float32"))

    def run():
        torch.autograd.grad((function(*tensors) * cotangent).sum(), leaves)

    return run


def labelled(jit_compile):
    """Return how a setting is called in the tables."""
    return "jit on" if jit_compile else "jit off"
