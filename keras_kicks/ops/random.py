"""Random draws for masks and slopes: cheap, the same with and without XLA, different on every replica if asked."""

import math

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster

LEVELS = 2**15


def draw_levels(shape, seed, per_replica=False):
    """Draw integers, uniform on {0, ..., LEVELS - 1}.

    Two are cut from each random word, since the words are what costs.

    Args:
        shape: Sequence of integers, or of scalar tensors where a dimension is unknown.
        seed: A `keras.random.SeedGenerator`, advanced by one draw; on TensorFlow also a seed of shape (2,).
        per_replica: Whether each replica of a tf.distribute strategy draws its own numbers. A seed generator gives
            all of them the same, which is right for weights and wrong for samples.

    Returns:
        int32 tensor of that shape.
    """
    size = math.prod(shape)
    levels = ops.reshape(_unpack(_draw_words((size + 1) // 2, seed, per_replica)), (-1,))
    even = isinstance(size, int) and size % 2 == 0
    return ops.reshape(levels if even else levels[:size], shape)


def draw_uniform(shape, seed, per_replica=False):
    """Draw float32 numbers, uniform on the odd multiples of 2^-24 in (0, 1). Arguments as in `draw_levels`."""
    words = ops.reshape(_draw_words(math.prod(shape), seed, per_replica), shape)
    # 23 bits and the half are what float32 holds exactly, so that neither 0 nor 1 comes out by rounding.
    return (ops.cast(ops.bitwise_right_shift(words, 7), "float32") + 0.5) * 2.0**-23


def draw_normal(shape, seed, per_replica=False):
    """Draw float32 numbers from N(0, 1), by the inverse of its distribution. Arguments as in `draw_levels`."""
    return math.sqrt(2.0) * ops.erfinv(2.0 * draw_uniform(shape, seed, per_replica) - 1.0)


def next_seed(seed, per_replica=False):
    """Advance a seed generator; return an int32 seed of shape (2,) for TensorFlow's stateless draws."""
    import tensorflow as tf

    state = tf.convert_to_tensor(seed.next())
    context = tf.distribute.get_replica_context()
    if per_replica and context is not None and context.num_replicas_in_sync > 1:
        replica = tf.cast(context.replica_id_in_sync_group, state.dtype)
        # Far apart in the first word, where users choose small neighbouring numbers.
        state = state + tf.stack([replica * 0x9E3779B1, tf.zeros_like(replica)])
    return tf.cast(tf.math.floormod(state, tf.int32.max), tf.int32)


@cluster
def _unpack(words):
    """From k words of 30 random bits to (k, 2) of 15."""
    return ops.bitwise_and(
        ops.bitwise_right_shift(ops.expand_dims(words, 1), ops.convert_to_tensor([0, 15])), LEVELS - 1
    )


def _draw_words(count, seed, per_replica):
    """Draw `count` int32 numbers, uniform on [0, 2^30)."""
    if keras.backend.backend() != "tensorflow":
        return keras.random.randint((count,), 0, LEVELS**2, dtype="int32", seed=seed)
    import tensorflow as tf

    if isinstance(seed, keras.random.SeedGenerator):
        seed = next_seed(seed, per_replica)
    # The generator is named because XLA, left to choose one, computes its key anew for every element: on the CPU
    # about a hundred times slower.
    return tf.random.stateless_uniform([count], seed, 0, LEVELS**2, tf.int32, alg="philox")


def content_seed(x):
    """Return an int32 scalar that depends on every value of `x`: a seed for what must draw without keeping a state.

    Sums of integers do not depend on the order of summation, so the seed is the same compiled or not.
    """
    levels = ops.floor(ops.clip(ops.cast(ops.stop_gradient(x), "float32"), -1e5, 1e5) * 4096.0)
    return ops.bitwise_and(ops.cast(ops.sum(ops.cast(levels, "int32")), "int32"), 0x3FFFFFFF)


def uniform_from(shape, seed, salt):
    """Draw float32 numbers in (0, 1) that depend on nothing but the arguments.

    Args:
        shape: Sequence of integers or scalar tensors.
        seed: Integer.
        salt: int32 scalar tensor, such as a `content_seed`.

    Returns:
        float32 tensor of that shape.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return draw_uniform(shape, tf.stack([tf.constant(seed % 2**31 - 1, tf.int32), salt]))
    if backend == "jax":
        import jax

        key = jax.random.fold_in(jax.random.key(seed), salt)
        return jax.random.uniform(key, shape, minval=2.0**-24)
    import torch

    generator = torch.Generator(device=salt.device).manual_seed((seed << 30) + int(salt))
    return torch.rand(tuple(shape), generator=generator, device=salt.device) * (1 - 2.0**-23) + 2.0**-24
