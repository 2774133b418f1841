"""Masks of dropped connections, and the product with a kernel that has one for each example."""

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.random import LEVELS, draw_levels, next_seed

# Entries of the masks that are held at a time when every example has its own.
CHUNK = 2**20


def keep_levels(rate):
    """The number of levels out of LEVELS at which a connection is kept; at least one."""
    return max(1, round((1 - rate) * LEVELS))


def draw_mask(shape, rate, seed, per_replica=False):
    """Draw 0 with probability `rate`, else 1 / (1 - rate), with the rate rounded to 2^-15 in both: the mean is 1.

    Args:
        shape: Shape of the mask.
        rate: Share of connections to drop, in [0, 1).
        seed: As in `draw_levels`.
        per_replica: As in `draw_levels`.

    Returns:
        float32 tensor of that shape, without a gradient.
    """
    levels = draw_levels(shape, seed, per_replica)
    return ops.stop_gradient(_mask(levels, ops.convert_to_tensor(keep_levels(rate))))


def masked_kernel(kernel, rate, seed):
    """Return a kernel under one mask of `draw_mask`, with the gradient of it.

    The mask is never held: forward and backward pass make it from the levels that were drawn, while they multiply.

    Args:
        kernel: Floating tensor.
        rate: As in `draw_mask`.
        seed: As in `draw_levels`.

    Returns:
        The shape and dtype of `kernel`.
    """
    if keras.backend.backend() == "torch":
        # Keras calls custom gradients otherwise there, and nothing is compiled by itself.
        return kernel * ops.cast(draw_mask(kernel.shape, rate, seed), kernel.dtype)
    levels, keep = draw_levels(kernel.shape, seed), ops.convert_to_tensor(keep_levels(rate))

    @ops.custom_gradient
    def product(kernel):
        def gradient(upstream):
            return _masked(upstream, levels, keep)

        return _masked(kernel, levels, keep), gradient

    return product(kernel)


def sampled_matmul(x, kernel, rate, seed):
    """Multiply each example with a kernel that has a mask of its own: y_b = x_b (W * mask_b).

    On TensorFlow the masks are drawn a few at a time, and once more in the backward pass, so that the memory they
    take does not grow with the batch. Elsewhere they are all held at once.

    Args:
        x: Shape (batch, positions, inputs).
        kernel: Shape (inputs, units), of the dtype of `x`.
        rate: Share of connections to drop, in [0, 1).
        seed: A `keras.random.SeedGenerator`. Replicas draw different masks.

    Returns:
        Shape (batch, positions, units).
    """
    if keras.backend.backend() == "tensorflow":
        return _chunked_matmul(x, kernel, rate, next_seed(seed, per_replica=True))
    mask = draw_mask((ops.shape(x)[0], *kernel.shape), rate, seed, per_replica=True)
    return ops.matmul(x, ops.cast(mask, kernel.dtype) * kernel)


@cluster
def _masked(x, levels, keep):
    scale = ops.cast(LEVELS / ops.cast(keep, "float32"), x.dtype)
    return ops.where(levels < keep, x * scale, ops.zeros((), x.dtype))


@cluster
def _mask(levels, keep):
    return ops.where(levels < keep, LEVELS / ops.cast(keep, "float32"), 0.0)


def _chunked_matmul(x, kernel, rate, seed):
    import tensorflow as tf

    inputs, units = kernel.shape
    size = max(1, CHUNK // (inputs * units))

    def split(x, width):
        """From (batch, positions, width) to (chunks, size, positions, width), padded with zeros."""
        batch = tf.shape(x)[0]
        padded = tf.pad(x, [[0, -batch % size], [0, 0], [0, 0]])
        return tf.reshape(padded, (-1, size, tf.shape(x)[1], width))

    def join(chunks, like, width):
        return tf.reshape(chunks, (-1, tf.shape(like)[1], width))[: tf.shape(like)[0]]

    def masked(kernel, index):
        """The kernel under each mask of one chunk, and the masks."""
        chunk_seed = tf.random.experimental.stateless_fold_in(seed, index)
        mask = tf.cast(draw_mask((size, inputs, units), rate, chunk_seed), kernel.dtype)
        return mask * kernel, mask

    @tf.custom_gradient
    def product(x, kernel):
        chunks = split(x, inputs)
        y = tf.map_fn(
            lambda item: tf.matmul(item[0], masked(kernel, item[1])[0]),
            (chunks, tf.range(tf.shape(chunks)[0])),
            fn_output_signature=x.dtype,
        )

        def gradient(upstream):
            upstreams = split(upstream, units)

            def step(index, dx, dkernel):
                dy = upstreams[index]
                weights, mask = masked(kernel, index)
                dx = dx.write(index, tf.matmul(dy, weights, transpose_b=True))
                outer = tf.matmul(chunks[index], dy, transpose_a=True)
                return index + 1, dx, dkernel + tf.reduce_sum(mask * outer, axis=0)

            count = tf.shape(chunks)[0]
            dx = tf.TensorArray(x.dtype, size=count)
            _, dx, dkernel = tf.while_loop(
                lambda index, *_: index < count, step, (tf.constant(0), dx, tf.zeros_like(kernel))
            )
            return join(dx.stack(), x, inputs), dkernel

        return join(y, x, units), gradient

    return product(x, kernel)
