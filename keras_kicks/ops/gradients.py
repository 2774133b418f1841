"""Functions with a gradient of their own, and gradients at a point, on each backend."""

import contextlib
import functools

import keras
from keras import ops


def with_gradient(forward, backward, arguments):
    """Run a function whose gradient is given.

    Args:
        forward: Function of the tuple of arguments that returns a tensor, and a tuple of tensors to remember.
        backward: Function of the arguments, what was remembered and the gradient by the tensor; returns the gradients
            by the arguments.
        arguments: Tuple of floating tensors.

    Returns:
        The tensor.
    """
    if keras.backend.backend() == "torch":
        # Keras's custom gradients hand over neither what was remembered nor errors there.
        return _torch_function().apply(forward, backward, *arguments)

    @ops.custom_gradient
    def run(*arguments):
        value, memory = forward(arguments)
        return value, lambda upstream: backward(arguments, memory, upstream)

    return run(*arguments)


@functools.cache
def _torch_function():
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, forward, backward, *arguments):
            value, memory = forward(arguments)
            ctx.save_for_backward(*arguments, *memory)
            ctx.pass_back, ctx.count = backward, len(arguments)
            return value

        @staticmethod
        def backward(ctx, upstream):
            arguments, memory = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
            return None, None, *ctx.pass_back(arguments, memory, upstream)

    return Function


def gradients_of(function, tensors, upstream):
    """Return the gradients of sum(function(*tensors) * upstream), also within a hand-written gradient.

    Args:
        function: Function of floating tensors that returns one tensor.
        tensors: Floating tensors.
        upstream: Tensor of the shape and dtype of the value.

    Returns:
        List of tensors; zeros by a tensor that the value does not depend on.
    """
    run = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    return run(function, list(tensors), upstream)


def _tensorflow(function, tensors, upstream):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return tape.gradient(value, tensors, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _jax(function, tensors, upstream):
    import jax

    return list(jax.vjp(function, *tensors)[1](upstream))


def _torch(function, tensors, upstream):
    import torch

    with torch.enable_grad():
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        value = function(*tensors)
    gradients = torch.autograd.grad(value, tensors, upstream, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients, strict=True)]


def no_gradients():
    """Return a context in which torch does not record what would be differentiated; elsewhere nothing is done."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
