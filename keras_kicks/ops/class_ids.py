"""Class ids outside the range, said before they are trained on."""

import keras
from keras import ops


def check_class_ids(ids, classes, owner):
    """Return `ids`; on TensorFlow raise InvalidArgumentError when one is outside [0, classes).

    XLA drops the check, and other backends cannot raise from compiled code: the caller must answer such an id with
    NaN besides.
    """
    if keras.backend.backend() != "tensorflow":
        return ids
    import tensorflow as tf

    wrong = tf.boolean_mask(ids, tf.logical_or(ids < 0, ids >= classes))
    message = f"{owner}: expected class ids in [0, {classes}); got"
    remedy = "Give the model as many outputs as there are classes, or name the id to leave out as ignore_class."
    check = tf.debugging.Assert(tf.equal(tf.size(wrong), 0), [message, wrong, remedy], summarize=8)
    with tf.control_dependencies([] if check is None else [check]):
        return ops.copy(ids)
