"""Gradients by tensors inside a call."""

import keras


def tensor_gradients(owner, run):
    """Return the gradients of a scalar by tensors that it was computed from on the way.

    Args:
        owner: Name of the function that asks.
        run: Function that returns the scalar and the list of tensors. It gets a function `watch`: what is computed
            from the tensor that `watch` returns has a gradient, whether or not a trainable weight is involved.

    Returns:
        A gradient for each tensor, or None where the scalar does not depend on it.

    Raises:
        NotImplementedError: the backend has no gradients by tensors inside a call.
        RuntimeError: the tensors are in a compiled function.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise NotImplementedError(f"{owner}: expected the backend tensorflow or torch; got backend={backend!r}.")
    return _BACKENDS[backend](owner, run)


def _tensorflow(owner, run):
    import tensorflow as tf

    def watch(tensor):
        if not tf.executing_eagerly():
            message = "expected a model that runs eagerly; got layers in a tf.function. Take it off."
            raise RuntimeError(f"{owner}: {message}")
        tape.watch(tensor)
        return tensor

    with tf.GradientTape() as tape:
        value, tensors = run(watch)
    return tape.gradient(value, tensors)


def _torch(owner, run):
    import torch

    def watch(tensor):
        # A copy, since a stateful layer overwrites its states at the end of the call.
        return tensor.clone() if tensor.requires_grad else tensor.detach().clone().requires_grad_()

    with torch.enable_grad():
        value, tensors = run(watch)
    return torch.autograd.grad(value, tensors, allow_unused=True)


_BACKENDS = {"tensorflow": _tensorflow, "torch": _torch}
