"""Errors from inside of a training step."""

import keras

from keras_kicks._errors import expect


def raise_where(owner, finite, paths):
    """Raise an error that names the variables whose gradient is not finite, as soon as it is known.

    Args:
        owner: Name of the class.
        finite: Boolean scalars, one for each variable.
        paths: The variables' paths.
    """

    def check(*flags):
        wrong = [path for path, flag in zip(paths, flags, strict=True) if not flag]
        remedy = "The step was not made; lower the learning rate, or skip such steps."
        expect(not wrong, owner, "finite gradients", remedy, variables=wrong)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            for flag, path in zip(finite, paths, strict=True):
                message = f"{owner}: expected finite gradients; got variables=[{path!r}]. The step was not made."
                tf.debugging.Assert(flag, [message])
            return
    if backend == "jax":
        import jax

        if any(isinstance(flag, jax.core.Tracer) for flag in finite):
            jax.debug.callback(check, *finite)
            return
    check(*(bool(flag) for flag in finite))
