"""Random numbers that are a function of integers, and not of how often something was drawn before."""

import keras


def numbered_normal(shape, seed, stream, number):
    """Return standard normal numbers, the same for the same arguments on a backend.

    Args:
        shape: Tuple of integers.
        seed: Integer.
        stream: Integer; other streams are independent.
        number: int32 scalar, such as that of the step.

    Returns:
        float32 tensor.
    """
    backend = keras.backend.backend()
    # One number of 31 bits out of two; the multiplier is odd, so that no two streams below 2^31 meet.
    mixed = (int(seed) + 0x9E3779B1 * int(stream)) % 2**31
    if backend == "tensorflow":
        import tensorflow as tf

        key = tf.stack([tf.constant(mixed, tf.int32), number])
        return tf.random.stateless_normal(shape, key, alg="philox")
    if backend == "jax":
        import jax

        return jax.random.normal(jax.random.fold_in(jax.random.key(mixed), number), tuple(shape))
    import torch

    # Torch draws from a state; this one is made anew from the numbers.
    generator = torch.Generator(device="cpu").manual_seed(mixed * 2**31 + int(number))
    return torch.randn(tuple(shape), generator=generator).to(number.device)
