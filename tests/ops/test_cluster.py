"""A function compiled by itself: where it is, where it is not, and that nothing else changes."""

import numpy as np
import pytest
from keras import ops

from keras_kicks.ops.cluster import cluster, xla_on_cpu

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def seen():
    """Return a function that marks each of its traces or calls, and the marks."""
    marks = []

    def fn(x):
        marks.append(tuple(x.shape))
        return ops.sum(ops.square(x), axis=-1)

    return fn, marks


def test_xla_works_on_this_machine():
    """Else the tests of this file, and all that rests on clusters, would say nothing."""
    assert xla_on_cpu()


def test_it_runs_as_it_is_when_eager():
    x = np.ones((2, 3), "float32")
    fast, plain = cluster(lambda x: x + 1.0, plain=lambda x: x + 2.0), cluster(lambda x: x + 1.0)
    np.testing.assert_array_equal(fast(ops.convert_to_tensor(x)), x + 2)
    np.testing.assert_array_equal(plain(ops.convert_to_tensor(x)), x + 1)


def test_it_is_compiled_once_for_all_batches_of_a_graph(seen):
    import tensorflow as tf

    fn, marks = seen
    call = tf.function(cluster(fn, plain=lambda x: tf.zeros(tf.shape(x)[:1])))
    for batch in (5, 3, 4, 5):
        x = np.random.default_rng(batch).normal(size=(batch, 3)).astype("float32")
        np.testing.assert_allclose(call(tf.constant(x)), (x**2).sum(axis=-1), rtol=1e-5)
    # One trace for the first batch, one for all others.
    assert len(marks) <= 2


def test_an_unknown_batch_is_compiled(seen):
    import tensorflow as tf

    fn, marks = seen
    call = tf.function(
        cluster(fn, plain=lambda x: tf.zeros(tf.shape(x)[:1])), input_signature=[tf.TensorSpec((None, 3))]
    )
    for batch in (5, 1, 0):
        np.testing.assert_allclose(call(tf.ones((batch, 3))), np.full(batch, 3.0))
    assert len(marks) == 1


def test_two_shapes_are_compiled_apart(seen):
    """A function that reads its shapes must see each of them, not one with the lengths left open."""
    import tensorflow as tf

    fn, marks = seen
    call = cluster(fn)

    @tf.function
    def both(x, y):
        return call(x), call(y), call(x)

    x, y = np.ones((2, 3), "float32"), np.ones((2, 4), "float32")
    first, second, again = both(tf.constant(x), tf.constant(y))
    np.testing.assert_array_equal(first, [3, 3])
    np.testing.assert_array_equal(second, [4, 4])
    np.testing.assert_array_equal(again, [3, 3])
    assert {mark[1] for mark in marks} == {3, 4}


def test_another_unknown_length_takes_the_plain_form():
    import tensorflow as tf

    call = tf.function(
        cluster(lambda x: x + 1.0, plain=lambda x: x + 2.0), input_signature=[tf.TensorSpec((None, None))]
    )
    np.testing.assert_array_equal(call(tf.zeros((2, 3))), np.full((2, 3), 2.0))


def test_an_argument_may_be_none_and_a_result_a_tuple():
    import tensorflow as tf

    call = tf.function(cluster(lambda x, y: (x + 1.0, x * 2.0 if y is None else y)))
    for y in (None, tf.ones((2, 3))):
        first, second = call(tf.zeros((2, 3)), y)
        np.testing.assert_array_equal(first, np.ones((2, 3)))
        np.testing.assert_array_equal(second, np.zeros((2, 3)) if y is None else np.ones((2, 3)))


def test_it_works_inside_a_compiled_step_and_on_replicas(strategy):
    import tensorflow as tf

    call = cluster(lambda x: ops.square(x) + 1.0)
    compiled = tf.function(lambda x: call(x) * 2.0, jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.fill((2, 3), 2.0)), np.full((2, 3), 10.0))
    step = tf.function(lambda: strategy.run(lambda: call(tf.fill((2, 3), 2.0))))
    for result in strategy.experimental_local_results(step()):
        np.testing.assert_array_equal(result, np.full((2, 3), 5.0))
