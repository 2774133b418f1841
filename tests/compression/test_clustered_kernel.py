"""ClusteredKernel against NumPy: centroids, lookup, gradients, zeros."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.compression.clustered_kernel import ClusteredKernel, distinct_values

pytestmark = pytest.mark.tensorflow


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def part_of(kernel, centroids=None, **arguments):
    part = ClusteredKernel(**arguments)
    part.build(kernel.shape)
    part.begin(ops.convert_to_tensor(kernel), centroids)
    return part


def values_and_gradients(part, kernel, upstream, graph):
    """Return the clustered kernel, and the gradients of its product with `upstream`, as arrays."""
    import tensorflow as tf

    def step(weights):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            clustered = part(weights)
            total = tf.reduce_sum(clustered * upstream)
        return clustered, *tape.gradient(total, [weights, part.centroids.value])

    step = tf.function(step) if graph else step
    return [np.array(x) for x in step(tf.constant(kernel))]


def nearest(kernel, centroids):
    """Return the index of the first of the nearest centroids of each weight, by definition."""
    return np.abs(kernel[..., None] - centroids).argmin(-1)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("aggregation", ["sum", "avg"])
@pytest.mark.parametrize("clusters", [2, 5, 16, 37])
def test_weights_become_the_nearest_centroid_and_its_gradient_is_that_of_its_members(clusters, aggregation, graph):
    kernel, upstream, centroids = drawn(30, 7), drawn(7, 30).T, drawn(clusters + 1)[1:]
    part = part_of(kernel, centroids, number_of_clusters=clusters, cluster_gradient_aggregation=aggregation)
    index = nearest(kernel, centroids)
    members = [upstream[index == k] for k in range(clusters)]
    reduce = np.sum if aggregation == "sum" else np.mean
    expected = [reduce(of.astype("float64")) if of.size else 0 for of in members]
    clustered, d_kernel, d_centroids = values_and_gradients(part, kernel, upstream, graph)
    np.testing.assert_array_equal(clustered, centroids[index])
    np.testing.assert_array_equal(d_kernel, upstream)
    np.testing.assert_allclose(d_centroids, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("aggregation", ["sum", "avg"])
def test_channels_have_centroids_of_their_own(aggregation, graph):
    kernel, upstream, centroids = drawn(3, 3, 2, 5), drawn(5, 2, 3, 3).T, drawn(5, 4)
    arguments = {"number_of_clusters": 4, "cluster_per_channel": True, "cluster_gradient_aggregation": aggregation}
    part = part_of(kernel, centroids, **arguments)
    clustered, d_kernel, d_centroids = values_and_gradients(part, kernel, upstream, graph)
    reduce = np.sum if aggregation == "sum" else np.mean
    for channel in range(5):
        index = nearest(kernel[..., channel], centroids[channel])
        np.testing.assert_array_equal(clustered[..., channel], centroids[channel][index])
        for k in range(4):
            of = upstream[..., channel][index == k]
            assert d_centroids[channel, k] == pytest.approx(reduce(of) if of.size else 0, abs=1e-5)
    np.testing.assert_array_equal(d_kernel, upstream)


@pytest.mark.parametrize("graph", [False, True])
def test_the_first_of_two_that_are_as_near_is_taken(graph):
    """Gradients show which: 0 lies between -1 and 1, and 3 has two centroids of the same value."""
    kernel, centroids = np.array([[0.0, 3.0]], "float32"), np.array([1, -1, 3, 3], "float32")
    part = part_of(kernel, centroids, number_of_clusters=4)
    clustered, _, d_centroids = values_and_gradients(part, kernel, np.array([[5.0, 7.0]], "float32"), graph)
    np.testing.assert_array_equal(clustered, [[1, 3]])
    np.testing.assert_array_equal(d_centroids, [5, 0, 7, 0])


def test_linear_centroids_are_evenly_spaced():
    kernel = drawn(20, 5)
    part = part_of(kernel, number_of_clusters=7, cluster_centroids_init="linear")
    np.testing.assert_allclose(part.centroids.numpy(), np.linspace(kernel.min(), kernel.max(), 7), rtol=1e-6, atol=1e-6)


def test_density_has_as_many_weights_between_any_two_centroids():
    """To within what lies between two points of TFMOT's grid of 30, of which it takes the next one."""
    kernel = drawn(5000, 1)
    centroids = part_of(kernel, number_of_clusters=5, cluster_centroids_init="density").centroids.numpy()
    grid = np.linspace(kernel.min(), kernel.max(), 30)
    within_a_step = np.diff((kernel < grid).mean(0)).max()
    np.testing.assert_allclose((kernel < centroids[1:-1]).mean(0), [0.25, 0.5, 0.75], atol=within_a_step)


def test_kmeans_draws_distinct_weights_and_always_the_same():
    kernel, found = drawn(20, 5), []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        found.append(part_of(kernel, number_of_clusters=8, cluster_centroids_init="kmeans++").centroids.numpy())
    assert len(set(found[0])) == 8
    assert set(found[0]) <= set(kernel.ravel())
    np.testing.assert_array_equal(*found)


def test_random_centroids_follow_the_seed():
    kernel, found = drawn(20, 5), []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        found.append(part_of(kernel, number_of_clusters=8, cluster_centroids_init="random").centroids.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2])
    assert np.all((found[0] >= kernel.min()) & (found[0] <= kernel.max()))


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("init", ["kmeans++", "linear", "density", "random"])
def test_zeros_stay_zero_whatever_the_weights_become(init, graph):
    kernel = drawn(20, 5) * (np.random.default_rng(1).random((20, 5)) < 0.5)
    part = part_of(kernel, number_of_clusters=6, cluster_centroids_init=init, preserve_sparsity=True)
    moved = kernel + 10
    before, d_kernel, d_centroids = values_and_gradients(part, kernel, np.ones_like(kernel), graph)
    assert np.all(before[kernel == 0] == 0)
    assert len(np.unique(before)) <= 6
    # What was nearest to zero is frozen there as well: no gradient moves it, nor the centroid.
    np.testing.assert_array_equal(d_kernel, before != 0)
    assert d_centroids[part.centroids.numpy() == 0] == 0
    after = values_and_gradients(part, moved, np.ones_like(kernel), graph)[0]
    np.testing.assert_array_equal(after == 0, before == 0)


def test_a_channel_with_few_weights_or_none_has_fewer_centroids():
    """Where k-means++ of TFMOT cannot draw 5 of 2 weights, nor stack channels of unequal numbers."""
    kernel = np.zeros((3, 3, 1, 3), "float32")
    kernel[0, 0, 0] = [1, 0, -1]
    kernel[1, 1, 0] = [2, 0, -3]
    kernel[2, :, 0, 2] = [4, 5, 6]
    arguments = {"number_of_clusters": 6, "cluster_per_channel": True, "preserve_sparsity": True}
    part = part_of(kernel, **arguments)
    np.testing.assert_array_equal(ops.convert_to_numpy(part(ops.convert_to_tensor(kernel))), kernel)
    assert set(part.centroids.numpy()[0]) == {0, 1, 2}
    assert set(part.centroids.numpy()[1]) == {0}


def test_the_dtype_of_the_kernel_is_kept_and_float32_computed_in():
    kernel = drawn(20, 5)
    part = part_of(kernel, np.array([-1.0001, 0, 1.0001]), number_of_clusters=3)
    assert part.centroids.dtype == "float32"
    clustered = part(ops.cast(kernel, "bfloat16"))
    assert keras.backend.standardize_dtype(clustered.dtype) == "bfloat16"
    assert set(np.unique(ops.convert_to_numpy(ops.cast(clustered, "float32")))) == {-1, 0, 1}


def test_distinct_values_are_the_centroids_of_a_clustered_kernel():
    kernel = np.array([[1, 2], [1, 3], [5, 2], [5, 7]], "float32")
    np.testing.assert_array_equal(distinct_values(kernel), [1, 2, 3, 5, 7])
    np.testing.assert_array_equal(distinct_values(kernel, per_channel=True), [[1, 5, 5], [2, 3, 7]])
    part = part_of(kernel, distinct_values(kernel), number_of_clusters=5)
    np.testing.assert_array_equal(ops.convert_to_numpy(part(ops.convert_to_tensor(kernel))), kernel)


def test_config_round_trip():
    arguments = {
        "number_of_clusters": 4,
        "cluster_centroids_init": "linear",
        "preserve_sparsity": True,
        "cluster_per_channel": True,
        "cluster_gradient_aggregation": "avg",
    }
    config = keras.saving.serialize_keras_object(ClusteredKernel(**arguments))
    again = keras.saving.deserialize_keras_object(config)
    assert {name: getattr(again, name) for name in arguments} == arguments
