"""The mask that Keras hangs on a tensor."""


def get_mask(x):
    """Return the mask of `x` or None."""
    return _masking().get_keras_mask(x)


def set_mask(x, mask):
    """Hang `mask` on `x`: a `keras.losses.Loss` averages over the unmasked entries of what `call` returns."""
    _masking().set_keras_mask(x, mask)
    return x


def _masking():
    # The attribute `_keras_mask` is what the masking guide names, but JAX's traced arrays take no attributes: Keras
    # keeps their masks in a table, which only its own functions reach.
    from keras.src.backend.common import masking  # noqa: TID251

    return masking
