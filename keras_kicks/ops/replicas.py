"""What a component must know of the other replicas of a tf.distribute strategy."""

import keras


def replica_count():
    """Return the number of replicas whose gradients are summed; 1 without a strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def gather_replicas(x):
    """Return the batches of all replicas, concatenated; gradients flow back to each of them."""
    if replica_count() == 1:
        return x
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return x if context is None else context.all_gather(x, axis=0)


def own_rows(gathered, x):
    """Return the rows of a gathered batch that this replica contributed with `x`."""
    if replica_count() == 1:
        return gathered
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:
        return gathered
    sizes = context.all_gather(tf.shape(x)[:1], axis=0)
    start = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    return gathered[start : start + tf.shape(x)[0]]


def sum_replicas(tensors):
    """Return the sums of gradients over all replicas; also of sparse ones."""
    if replica_count() == 1:
        return list(tensors)
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return list(tensors) if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))


def assign_all(variables, values):
    """Assign values, the same on all replicas, to Keras variables, also within a replica.

    In a replica each assignment would otherwise synchronize all of them, or be refused.
    """
    values = [keras.ops.cast(value, variable.dtype) for variable, value in zip(variables, values, strict=True)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and tf.distribute.has_strategy():
            context.merge_call(_assign_in_cross_replica, args=([v.value for v in variables], values))
            return
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _assign_in_cross_replica(strategy, variables, values):
    for variable, value in zip(variables, values, strict=True):
        strategy.extended.update(variable, lambda v, x: v.assign(x), args=(value,), group=False)
