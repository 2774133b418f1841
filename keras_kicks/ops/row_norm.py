"""Layer normalization of rows, with its gradient, for use within a step of a recurrent network."""

import keras
from keras import ops


def normalize(x, epsilon):
    """Bring each row to mean 0 and variance 1, in float32 or wider.

    Returns:
        The normalized rows, of the dtype of `x`, and 1 / sqrt(variance + epsilon), of shape (batch, 1).
    """
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    centred = wide - row_mean(wide)
    rstd = ops.rsqrt(row_mean(ops.square(centred)) + epsilon)
    return ops.cast(centred * rstd, x.dtype), rstd


def normalize_gradient(upstream, normal, rstd):
    """Return the gradient by x from that by the normalized rows."""
    dy, y = (ops.cast(t, rstd.dtype) for t in (upstream, normal))
    return ops.cast(rstd * (dy - row_mean(dy) - y * row_mean(dy * y)), upstream.dtype)


def row_mean(x):
    """Return the mean of each row, of shape (batch, 1), as a product: XLA's sums along a row are not vectorized."""
    width = x.shape[-1]
    return ops.matmul(x, ops.full((width, 1), 1 / width, dtype=x.dtype))
