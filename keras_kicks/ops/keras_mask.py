"""The mask that Keras hangs on a tensor, under the name its masking guide uses."""


def get_mask(x):
    """Return the mask of `x` or None."""
    return getattr(x, "_keras_mask", None)


def set_mask(x, mask):
    """Hang `mask` on `x`: a `keras.losses.Loss` averages over the unmasked entries of what `call` returns."""
    x._keras_mask = mask
    return x
