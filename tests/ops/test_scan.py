"""The loop over steps, against a loop in NumPy."""

import numpy as np
import pytest
from keras import ops

from keras_kicks.ops.scan import scan


def array(x):
    return np.array(ops.convert_to_numpy(x))


def fold(states, xs):
    """A step whose result depends on the order of the steps."""
    total, last = states
    (x,) = xs
    total = 2.0 * total + x
    return (total, x), (total + last,)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_states_and_rows_are_those_of_a_loop(steps, reverse):
    x = np.random.default_rng(0).normal(size=(steps, 2, 3)).astype("float32")
    first = np.ones((2, 3), "float32"), np.zeros((2, 3), "float32")
    last, stacks, (rows,) = scan(fold, map(ops.convert_to_tensor, first), [ops.convert_to_tensor(x)], reverse)
    states, seen, expected = first, [first], []
    for t in reversed(range(steps)) if reverse else range(steps):
        states, (row,) = fold(states, (x[t],))
        seen.append(states)
        expected.append(row)
    order = slice(None, None, -1) if reverse else slice(None)
    np.testing.assert_allclose(array(rows), expected[order], rtol=1e-6)
    for i, stack in enumerate(stacks):
        np.testing.assert_allclose(array(stack), [state[i] for state in seen][order], rtol=1e-6)
        np.testing.assert_allclose(array(last[i]), states[i], rtol=1e-6)


def test_states_are_stacked_only_if_asked():
    x = ops.ones((4, 2, 3))
    _, stacks, rows = scan(fold, (x[0], x[0]), (x,), keep_states=False)
    assert stacks == ()
    assert tuple(rows[0].shape) == (4, 2, 3)


@pytest.mark.tensorflow
@pytest.mark.parametrize("reverse", [False, True])
def test_the_graph_does_not_grow_with_the_length(reverse):
    import tensorflow as tf

    def nodes(steps):
        def run(x):
            return scan(fold, (x[0], x[0]), (x,), reverse)

        graph = tf.function(run).get_concrete_function(tf.TensorSpec((steps, 2, 3))).graph
        functions = graph.as_graph_def().library.function
        return len(graph.get_operations()) + sum(len(function.node_def) for function in functions)

    assert nodes(3) == nodes(300)


@pytest.mark.tensorflow
def test_an_unknown_length():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 3))])
    def run(x):
        return scan(fold, (x[0], x[0]), (x,))[2][0]

    for steps in (1, 4):
        x = tf.random.stateless_normal((steps, 2, 3), (1, 2))
        np.testing.assert_allclose(run(x), scan(fold, (x[0], x[0]), (x,))[2][0], rtol=1e-6)
