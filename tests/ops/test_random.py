"""Random draws: their distribution, their seeds, their replicas."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.ops.random import LEVELS, content_seed, draw_levels, draw_normal, draw_uniform, uniform_from

N = 2**17


def generator(seed=1):
    return keras.random.SeedGenerator(seed)


def array(x):
    return np.array(ops.convert_to_numpy(x))


def kolmogorov(n, p=1e-6):
    """The distance to the distribution function that n numbers exceed with probability p."""
    return np.sqrt(-np.log(p / 2) / (2 * n))


def distance_to_uniform(u):
    u, steps = np.sort(u), np.arange(len(u)) / len(u)
    return np.maximum(u - steps, steps + 1 / len(u) - u).max()


def correlation(a, b):
    return np.corrcoef(np.ravel(a).astype("float64"), np.ravel(b).astype("float64"))[0, 1]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 5), (0, 3), (2, 3, 7)])
@pytest.mark.parametrize("draw", [draw_levels, draw_uniform, draw_normal])
def test_every_shape_is_drawn(draw, shape):
    assert tuple(draw(shape, generator()).shape) == shape


def test_levels_are_uniform_integers():
    levels = array(draw_levels((N,), generator()))
    assert levels.dtype == np.int32
    assert levels.min() >= 0
    assert levels.max() < LEVELS
    assert distance_to_uniform((levels + 0.5) / LEVELS) < kolmogorov(N)
    # Each of the 15 bits is fair, also in the numbers cut from the low and the high half of a word.
    for half in (levels[0::2], levels[1::2]):
        for bit in range(15):
            assert abs(((half >> bit) & 1).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(half))


def test_levels_of_one_word_are_independent():
    levels = array(draw_levels((N,), generator()))
    for lag in (1, 2, 3):
        assert abs(correlation(levels[:-lag], levels[lag:])) < 5 / np.sqrt(N)
    # No bit of a number is a bit of its neighbour.
    first, second = (2.0 * ((half[:, None] >> np.arange(15)) & 1) - 1 for half in (levels[0::2], levels[1::2]))
    assert np.abs(first.T @ second).max() / len(first) < 6 / np.sqrt(len(first))


def test_uniform_numbers_lie_between_zero_and_one():
    u = array(draw_uniform((N,), generator()))
    assert u.dtype == np.float32
    assert 0 < u.min() < u.max() < 1
    assert distance_to_uniform(u.astype("float64")) < kolmogorov(N)
    odd = u.astype("float64") * 2**24
    np.testing.assert_array_equal(odd % 2, 1)


def test_normal_numbers_have_the_moments():
    """The moments 0, 1, 0, 3 of N(0, 1), within five standard errors: the variances are 1, 2, 15 and 96."""
    z = array(draw_normal((N,), generator())).astype("float64")
    assert np.isfinite(z).all()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * np.sqrt(variance / N)


@pytest.mark.parametrize("draw", [draw_levels, draw_uniform, draw_normal])
def test_a_generator_advances_and_a_seed_repeats(draw):
    first, again, other = generator(), generator(), generator(2)
    a, b = array(draw((N,), first)), array(draw((N,), first))
    assert abs(correlation(a, b)) < 5 / np.sqrt(N)
    assert abs(correlation(a, array(draw((N,), other)))) < 5 / np.sqrt(N)
    np.testing.assert_array_equal(a, array(draw((N,), again)))
    np.testing.assert_array_equal(b, array(draw((N,), again)))


@pytest.mark.tensorflow
@pytest.mark.parametrize("draw", [draw_levels, draw_uniform, draw_normal])
def test_a_graph_and_xla_draw_the_same_with_lengths_unknown(draw):
    import tensorflow as tf

    expected = array(draw((5, 3), generator()))
    for jit_compile in (False, True):
        seed = generator()
        run = tf.function(lambda x, seed=seed: draw(ops.shape(x), seed), jit_compile=jit_compile)
        run = run.get_concrete_function(tf.TensorSpec((None, 3)))
        np.testing.assert_allclose(run(tf.zeros((5, 3))).numpy(), expected, rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("draw", [draw_levels, draw_uniform, draw_normal])
def test_replicas_draw_the_same_unless_asked_for_their_own(strategy, draw):
    import tensorflow as tf

    for per_replica in (False, True):
        with strategy.scope():
            seed = generator()

        @tf.function
        def step(seed=seed, per_replica=per_replica):
            return strategy.run(lambda: draw((N,), seed, per_replica=per_replica))

        first, second = (x.numpy() for x in strategy.experimental_local_results(step()))
        if per_replica:
            assert abs(correlation(first, second)) < 5 / np.sqrt(N)
        else:
            np.testing.assert_array_equal(first, second)


def test_a_content_seed_depends_on_every_value_and_on_no_order_of_summation():
    x = np.random.default_rng(0).normal(size=(40, 7)).astype("float32")
    seed = int(content_seed(ops.convert_to_tensor(x)))
    assert 0 <= seed < 2**30
    assert int(content_seed(ops.convert_to_tensor(x[::-1].copy()))) == seed
    for place in ((0, 0), (20, 3), (39, 6)):
        changed = x.copy()
        changed[place] += 0.01
        assert int(content_seed(ops.convert_to_tensor(changed))) != seed


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e30])
def test_a_content_seed_of_huge_values_is_a_seed(value):
    seed = int(content_seed(ops.convert_to_tensor(np.full((3, 3), value, "float32"))))
    assert 0 <= seed < 2**30


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_uniform_numbers_from_a_salt_depend_on_seed_and_salt(seed):
    def draw(seed, salt):
        return array(uniform_from((N,), seed, ops.convert_to_tensor(salt, dtype="int32")))

    u = draw(seed, 5)
    assert 0 < u.min() < u.max() < 1
    assert distance_to_uniform(u.astype("float64")) < kolmogorov(N)
    np.testing.assert_array_equal(u, draw(seed, 5))
    assert abs(correlation(u, draw(seed, 6))) < 5 / np.sqrt(N)
    assert abs(correlation(u, draw(seed + 1, 5))) < 5 / np.sqrt(N)
