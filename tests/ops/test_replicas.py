"""Batches of all replicas of a strategy."""

import numpy as np
import pytest
from keras import ops

from keras_kicks.ops.replicas import gather_replicas, own_rows, replica_count


def test_without_a_strategy_there_is_one_replica():
    x = ops.ones((2, 3))
    assert replica_count() == 1
    assert gather_replicas(x) is x
    assert own_rows(x, x) is x


def on_replicas(strategy, function, batches):
    """Run a function on each replica with its batch, and return the results as arrays, replica by replica."""
    import tensorflow as tf

    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(batches[context.replica_id_in_sync_group])
    )
    results = tf.function(lambda values: strategy.run(function, (values,)))(values)
    return [np.array(result) for result in strategy.experimental_local_results(results)]


@pytest.mark.tensorflow
def test_replicas_are_counted_inside_and_outside(strategy):
    with strategy.scope():
        assert replica_count() == 2
        x = ops.ones((2, 3))
        assert gather_replicas(x) is x
        assert own_rows(x, x) is x


@pytest.mark.tensorflow
@pytest.mark.parametrize("sizes", [(2, 2), (3, 1)])
def test_every_replica_gathers_all_rows_and_finds_its_own(strategy, sizes):
    rows = np.arange(4 * 3, dtype="float32").reshape(4, 3)
    batches = rows[: sizes[0]], rows[sizes[0] :]
    for gathered in on_replicas(strategy, gather_replicas, batches):
        np.testing.assert_array_equal(gathered, rows)
    own = on_replicas(strategy, lambda x: own_rows(gather_replicas(x) * 2.0, x), batches)
    for got, batch in zip(own, batches, strict=True):
        np.testing.assert_array_equal(got, 2 * batch)


@pytest.mark.tensorflow
def test_the_gradient_of_all_replicas_flows_back_to_each(strategy):
    """Each replica's loss is (r + 1) sum_i i sum(row i): the sum over replicas has the gradient 3 i in row i."""
    import tensorflow as tf

    rows = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    batches = rows[:2], rows[2:]

    def gradient(x):
        factor = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group + 1, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = factor * tf.reduce_sum(tf.range(4.0)[:, None] * gather_replicas(x))
        return tape.gradient(loss, x)

    first, second = on_replicas(strategy, gradient, batches)
    expected = 3 * np.arange(4.0)[:, None] * np.ones((4, 3))
    np.testing.assert_allclose(np.concatenate([first, second]), expected, rtol=1e-6)
