"""What it takes to cluster one kernel."""

import functools

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect_choice
from keras_kicks.compression._tfmot import tfmot
from keras_kicks.ops.cluster import cluster

# Our names, and those of the members of TFMOT's enums.
INITIALIZATIONS = {
    "kmeans++": "KMEANS_PLUS_PLUS",
    "linear": "LINEAR",
    "density": "DENSITY_BASED",
    "random": "RANDOM",
}
AGGREGATIONS = {"sum": "SUM", "avg": "AVG"}


@keras.saving.register_keras_serializable(package="keras_kicks")
class ClusteredKernel(keras.layers.Layer):
    """Replaces each weight of a kernel by the nearest of a few centroids, which are trained.

        y_i = c_k(i),  k(i) = argmin_k |w_i - c_k|
        dL/dc_k = sum (or mean) of dL/dy_i over the members i of k,  dL/dw_i = dL/dy_i

    The centroids' first values, the lookup and the gradients are those of TFMOT. Which centroid is the nearest is found
    anew in each call, so that nothing but centroids has to be saved.

    Args:
        number_of_clusters: Number of centroids, for each output channel with `cluster_per_channel`.
        cluster_centroids_init: "kmeans++", "linear", "density" or "random".
        preserve_sparsity: Whether one centroid is zero, and what it has as members at the start stays zero.
        cluster_per_channel: Whether each slice of the last axis has centroids of its own.
        cluster_gradient_aggregation: "sum" or "avg".
        **kwargs: Base layer arguments.

    Call arguments:
        kernel: Tensor of the shape that this was built for.

    Returns:
        A tensor of the same shape and dtype.

    Source:
        Han, Mao and Dally, "Deep Compression", 2015, arXiv:1510.00149; TensorFlow Model Optimization Toolkit.
        Departures: the zero centroid gets no gradient, which TFMOT undoes in the next step; channels are those of the
        last axis also in models with channels first, where TFMOT takes columns of the kernel for channels; a channel
        with fewer non-zero weights than clusters gets no more of them.
    """

    def __init__(
        self,
        number_of_clusters,
        cluster_centroids_init="kmeans++",
        preserve_sparsity=False,
        cluster_per_channel=False,
        cluster_gradient_aggregation="sum",
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        # The kernel says what is returned: it is not to be cast before.
        self.autocast = False
        self.number_of_clusters = number_of_clusters
        self.cluster_centroids_init = cluster_centroids_init
        self.preserve_sparsity = preserve_sparsity
        self.cluster_per_channel = cluster_per_channel
        self.cluster_gradient_aggregation = cluster_gradient_aggregation

    def build(self, kernel_shape):
        """Make the centroids, of zeros: `begin` finds them."""
        # It must not be imported for the first time while a graph is traced.
        tfmot("clustering.keras.clustering_algorithm")
        shape = (self.number_of_clusters,)
        if self.cluster_per_channel:
            shape = (kernel_shape[-1], *shape)
        self.centroids = self.add_weight(shape=shape, initializer="zeros", name="centroids")
        if self.preserve_sparsity:
            fixed = {"initializer": "ones", "dtype": "bool", "trainable": False}
            self.mask = self.add_weight(shape=kernel_shape, name="mask", **fixed)
            self.free = self.add_weight(shape=shape, name="free", **fixed)

    def begin(self, kernel, centroids=None):
        """Find the centroids of a kernel, and which of its weights stay zero.

        Args:
            kernel: Tensor of the weights.
            centroids: Array of centroids to take instead of those of `cluster_centroids_init`.
        """
        columns = self._columns(ops.cast(kernel, "float32"))[0]
        if centroids is None:
            centroids = np.stack([self._first_centroids(columns[:, i]) for i in range(columns.shape[1])])
        self.centroids.assign(np.reshape(centroids, self.centroids.shape))
        if self.preserve_sparsity:
            self.free.assign(ops.not_equal(self.centroids.value, 0))
            self.mask.assign(ops.ones(self.mask.shape, "bool"))
            self.mask.assign(ops.not_equal(self(kernel), 0))

    def call(self, kernel):
        """Return the clustered kernel."""
        weights, centroids = ops.cast(kernel, "float32"), ops.convert_to_tensor(self.centroids)
        if self.preserve_sparsity:
            weights = ops.where(self.mask, weights, 0.0)
            centroids = ops.where(self.free, centroids, 0.0)
        look_up = _LOOK_UPS[self.cluster_gradient_aggregation]
        clustered = look_up(self._columns(weights), ops.reshape(centroids, (-1, self.number_of_clusters)))
        return ops.cast(ops.reshape(clustered, kernel.shape), kernel.dtype)

    def _columns(self, kernel):
        """Return weights as (1, weights of a channel, channels)."""
        channels = kernel.shape[-1] if self.cluster_per_channel else 1
        return ops.reshape(kernel, (1, -1, channels))

    def _first_centroids(self, weights):
        """Return centroids for the weights of a channel, filled up with zeros that have no members."""
        number = self.number_of_clusters
        if self.preserve_sparsity:
            # k-means++ cannot draw more centroids than there are weights.
            number = min(number, 1 + int(ops.count_nonzero(weights)))
        enum = tfmot("clustering.keras.cluster_config").CentroidInitialization
        factory = tfmot("clustering.keras.clustering_centroids").CentroidsInitializerFactory
        kind = factory.get_centroid_initializer(enum[INITIALIZATIONS[self.cluster_centroids_init]])
        found = kind(weights, number, preserve_sparsity=self.preserve_sparsity).get_cluster_centroids()
        return np.pad(ops.convert_to_numpy(found), (0, self.number_of_clusters - found.shape[0]))

    def compute_output_shape(self, kernel_shape):
        """Return the kernel's shape."""
        return kernel_shape

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "number_of_clusters": self.number_of_clusters,
            "cluster_centroids_init": self.cluster_centroids_init,
            "preserve_sparsity": self.preserve_sparsity,
            "cluster_per_channel": self.cluster_per_channel,
            "cluster_gradient_aggregation": self.cluster_gradient_aggregation,
        }
        return {**super().get_config(), **config}


def distinct_values(kernel, per_channel=False):
    """Return the values of a kernel that is clustered, as centroids for `ClusteredKernel.begin`.

    Args:
        kernel: Array.
        per_channel: Whether each slice of the last axis has values of its own.

    Returns:
        Array of them, sorted, of shape (clusters,) or (channels, clusters); a channel with fewer than others has
        its last one several times.
    """
    columns = np.reshape(kernel, (-1, np.shape(kernel)[-1] if per_channel else 1)).T
    found = [np.unique(column) for column in columns]
    most = max(map(len, found))
    filled = np.stack([np.pad(values, (0, most - len(values)), mode="edge") for values in found])
    return filled if per_channel else filled[0]


def member(owner, members, **got):
    """Return our name of a choice that is given by it or by the member of TFMOT's enum.

    Raises:
        ValueError: expected one of the names.
    """
    ((_, value),) = got.items()
    # TFMOT's members are strings, as "GradientAggregation.SUM".
    ours = {theirs: name for name, theirs in members.items()}
    chosen = ours.get(value.partition(".")[2], value) if isinstance(value, str) else value
    expect_choice(owner, tuple(members), **dict.fromkeys(got, chosen))
    return chosen


def _look_up(kernel, centroids, average, nearest):
    """Return (1, n, channels) weights as their nearest of (channels, clusters) centroids.

    One table holds the centroids of all channels, each from where the channel before ends. So TFMOT's code for a whole
    kernel serves channels too, without its loop over them.
    """
    import tensorflow as tf

    # Its constructor takes a variable; what is looked up here was computed from one.
    kind = tfmot("clustering.keras.clustering_algorithm").ClusteringAlgorithm
    algorithm = object.__new__(kind)
    channels, clusters = centroids.shape
    indices = nearest(algorithm, kernel, tf.stop_gradient(centroids))
    indices += clusters * tf.range(channels, dtype=indices.dtype)
    table = tf.reshape(centroids, [-1])
    if average:
        # TFMOT counts members with bincount, of which XLA makes a kernel that takes minutes.
        sizes = tf.math.unsorted_segment_sum(tf.ones_like(kernel), indices, channels * clusters)
        table = algorithm.average_centroids_gradient_by_cluster_size(table, sizes)
    algorithm.cluster_centroids = table
    algorithm.cluster_gradient_aggregation = tfmot("clustering.keras.cluster_config").GradientAggregation.SUM
    return algorithm.get_clustered_weight(indices, kernel)


def _nearest(algorithm, kernel, centroids):
    return algorithm.get_pulling_indices(kernel, centroids)


def _nearest_fused(_, kernel, centroids):
    """Return the same as TFMOT's argmin, of which XLA on a CPU makes a slow loop if there are many centroids."""
    import tensorflow as tf

    # What is in one pass of the loop is one kernel; to have all in one takes long to compile.
    at_once = min(16, centroids.shape[1])
    missing = -centroids.shape[1] % at_once
    rows = tf.pad(tf.transpose(centroids), [[0, missing], [0, 0]], constant_values=np.inf)

    def compare(first, least, indices):
        for k in range(at_once):
            distance = tf.abs(kernel - rows[first + k])
            nearer = distance < least
            least = tf.where(nearer, distance, least)
            indices = tf.where(nearer, first + k, indices)
        return first + at_once, least, indices

    start = (0, tf.fill(tf.shape(kernel), np.float32(np.inf)), tf.zeros_like(kernel, tf.int32))
    return tf.while_loop(lambda first, *_: first < rows.shape[0], compare, start)[2]


# A kernel of XLA finds the indices and sums gradients by cluster ten times as fast as operations of TensorFlow do.
_LOOK_UPS = {
    name: cluster(
        functools.partial(_look_up, average=name == "avg", nearest=_nearest_fused),
        plain=functools.partial(_look_up, average=name == "avg", nearest=_nearest),
    )
    for name in AGGREGATIONS
}
