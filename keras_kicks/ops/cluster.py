"""Compile one function by itself, inside a graph that is not compiled."""

import functools

import keras


def cluster(fn, plain=None, key=None):
    """Run `fn` as one XLA kernel inside a TensorFlow graph, and as it is everywhere else.

    On a machine without an accelerator Keras never compiles the training step, so that every elementwise operation
    reads and writes memory once. A function that is compiled by itself needs one pass, and works where compiling the
    whole step does not (tf.distribute). It is left alone when run eagerly (compiling would cost more than it saves),
    on other backends, where an accelerator is visible (there Keras compiles the step itself), and when a dimension
    besides the first is unknown (every new length would be compiled again).

    Args:
        fn: A pure function of tensors that returns a tensor or a tuple of tensors. It may be called with None for an
            argument. It must not read or write variables.
        plain: What runs where `fn` is not compiled, if that should be another form of it.
        key: Function of the tensors that returns what tells one compiled form from another, or None if they are not
            to be compiled. By default the lengths of all dimensions besides the first, if they are known.

    Returns:
        A function with the same arguments and the same values.
    """
    plain, key = plain or fn, key or _lengths
    if keras.backend.backend() != "tensorflow":
        return plain
    compiled = {}

    @functools.wraps(fn)
    def call(*tensors):
        import tensorflow as tf

        form = key(*tensors)
        if form is None or not (tf.inside_function() and xla_on_cpu()):
            return plain(*tensors)
        # One function for all batch sizes, but not for all shapes: `fn` is to see every other length.
        if form not in compiled:
            compiled[form] = tf.function(fn, jit_compile=True, autograph=False, reduce_retracing=True)
        return compiled[form](*tensors)

    return call


def _lengths(*tensors):
    lengths = tuple(None if t is None else tuple(t.shape)[1:] for t in tensors)
    return lengths if all(shape is None or None not in shape for shape in lengths) else None


@functools.cache
def xla_on_cpu():
    """Whether TensorFlow runs on the CPU alone here and its XLA compiler works (some builds lack it)."""
    import tensorflow as tf

    if any(device.device_type != "CPU" for device in tf.config.list_logical_devices()):
        return False
    try:
        with tf.init_scope():
            probe = tf.function(lambda x: x + 1.0, jit_compile=True, autograph=False)
            return float(probe(tf.constant(1.0))) == 2.0
    except (tf.errors.OpError, ValueError):
        return False
