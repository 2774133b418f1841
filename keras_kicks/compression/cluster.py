"""Weight clustering of Keras 3 models."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.compression.cluster_wrapper import ClusterWeights, clusterable_kernels
from keras_kicks.compression.clustered_kernel import AGGREGATIONS, INITIALIZATIONS, member
from keras_kicks.compression.keras_layers import all_layers
from keras_kicks.compression.prune import expect_model
from keras_kicks.compression.pruning_constraint import PruningConstraint
from keras_kicks.compression.quantized_layer import QuantizedLayer
from keras_kicks.compression.rebuild import copied, expect_graph, rebuilt


def cluster_weights(
    model,
    number_of_clusters,
    cluster_centroids_init="kmeans++",
    preserve_sparsity=False,
    cluster_per_channel=False,
    cluster_gradient_aggregation="sum",
    layers=None,
):
    """Return a copy of a model whose kernels have a few values each, which are trained.

    Each weight is replaced by the nearest of its kernel's centroids, in training and inference. Gradients train the
    centroids, and the weights that choose among them. So a kernel needs log2(number_of_clusters) bits a weight, which
    is what gzip finds in the file. Begin with a trained model and train on with a small learning rate. The copy is
    compiled and trained as ever, with or without jit, under a mixed precision policy, and under `MirroredStrategy` if
    this is called within its scope. Saved as `.keras` in the middle, it goes on from there.

    Args:
        model: A trained Sequential or functional model; it is not changed. Dense, EinsumDense, convolutions (of
            separable ones the pointwise kernel), Embedding, recurrent layers, MultiHeadAttention, the layers of this
            library and layers with a method `get_clusterable_weights()` or `get_prunable_weights()` are clustered, also
            in nested models. Biases, depthwise kernels and normalizations are not.
        number_of_clusters: Number of values of each kernel, >= 2.
        cluster_centroids_init: First centroids. "kmeans++": weights, drawn far from each other; "linear": evenly spaced
            from the least to the largest weight; "density": evenly spaced in the distribution of the weights; "random":
            uniform between the least and the largest. "random" follows `keras.utils.set_random_seed`; "kmeans++" draws
            from TFMOT's own fixed seed, so that the same weights have the same centroids.
        preserve_sparsity: Whether weights that are zero, as those of a pruned and stripped model, stay zero; one of the
            values is zero then. Weights that are nearest to zero become zero too.
        cluster_per_channel: Whether each output channel of a Conv2D has values of its own. Other kernels do not.
        cluster_gradient_aggregation: Gradient of a centroid: "sum" of those of its weights, or "avg", their mean.
        layers: Layers, or their names, to cluster; None for all.

    Returns:
        The copy, not compiled.

    Raises:
        ImportError: TFMOT is not installed.
        TypeError: `model` is no layer of Keras 3, `number_of_clusters` no integer, a flag no bool.
        ValueError: expected a built Sequential or functional model with weights to cluster, not clustered yet, without
            pruning; number_of_clusters >= 2, or >= 3 with preserve_sparsity, and fewer than weights in each kernel (or
            channel); a known initialization and aggregation; a Conv2D for cluster_per_channel; finite floating weights;
            layers of the model with weights to cluster; no two layers with one kernel.

    Source:
        Han, Mao and Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and
        Huffman Coding", 2015, arXiv:1510.00149; TensorFlow Model Optimization Toolkit, whose centroids, lookups and
        gradients these are.
        Departures: channels of a Conv2D are those of its outputs also with channels first, where TFMOT takes columns of
        the kernel for them; a kernel too small for its clusters is an error, not left as it is.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.compression import cluster_report, cluster_weights, strip_clustering
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5)])
        >>> clustered = cluster_weights(model, 4)
        >>> clustered.compile("sgd", "mse")
        >>> history = clustered.fit(np.ones((8, 8)), np.ones((8, 5)), verbose=0)
        >>> list(cluster_report(strip_clustering(clustered)).values())
        [4]
    """
    owner = "cluster_weights"
    expect_model(owner, model)
    expect_graph(owner, model)
    flags = {"preserve_sparsity": preserve_sparsity, "cluster_per_channel": cluster_per_channel}
    for name, flag in flags.items():
        expect(isinstance(flag, bool), owner, f"a bool for {name}", error=TypeError, **{name: flag})
    least = 3 if preserve_sparsity else 2
    rule = f"number_of_clusters >= {least}" + " with preserve_sparsity" * preserve_sparsity
    expect_integer(owner, number_of_clusters=number_of_clusters)
    expect(number_of_clusters >= least, owner, rule, number_of_clusters=number_of_clusters)
    clustering = {
        "number_of_clusters": int(number_of_clusters),
        "cluster_centroids_init": member(owner, INITIALIZATIONS, cluster_centroids_init=cluster_centroids_init),
        "preserve_sparsity": preserve_sparsity,
        "cluster_per_channel": cluster_per_channel,
        "cluster_gradient_aggregation": member(
            owner, AGGREGATIONS, cluster_gradient_aggregation=cluster_gradient_aggregation
        ),
    }
    plain = not _wrappers(model)
    expect(plain, owner, "a model that is not clustered yet", "Call strip_clustering first.", model=model.name)
    kernels = clusterable_kernels(model, owner, layers)
    expect(bool(kernels), owner, "a model with weights to cluster", model=model.name)
    images = not cluster_per_channel or any(isinstance(kernel.layer, keras.layers.Conv2D) for kernel in kernels)
    expect(images, owner, "a Conv2D to cluster with cluster_per_channel", model=model.name)
    for kernel in kernels:
        _expect_clusterable(owner, kernel, number_of_clusters, cluster_per_channel)
    chosen = {id(kernel.variable) for kernel in kernels}

    def replace(layer):
        found = clusterable_kernels(layer, owner)
        indices = [i for i, kernel in enumerate(found) if id(kernel.variable) in chosen]
        if not indices:
            return None
        inner = copied(layer)
        inner.build_from_config(layer.get_build_config())
        own = len(clusterable_kernels(inner, owner)) == len(found)
        expect(own, owner, "layers with kernels of their own", "Untie the layers first.", layer=layer.name)
        return ClusterWeights(inner, indices, clustering, name=layer.name)

    return rebuilt(owner, model, replace)


def strip_clustering(model):
    """Return a copy of a clustered model with the layers it had before, whose kernels hold the clustered values.

    Args:
        model: A model from `cluster_weights`, or from `quantize_model` with preserve_clusters; it is not changed.

    Returns:
        The copy, not compiled: a plain model of Keras, or a quantized one.

    Raises:
        TypeError: `model` is no layer of Keras 3.
        ValueError: expected a model that is clustered.
    """
    owner = "strip_clustering"
    expect_model(owner, model)
    expect(is_clustered(model), owner, "a model from cluster_weights", model=model.name)

    def replace(layer):
        if isinstance(layer, ClusterWeights):
            return copied(layer.layer)
        return copied(layer, clusters={}) if isinstance(layer, QuantizedLayer) else None

    return rebuilt(owner, model, replace)


def is_clustered(model):
    """Return whether a model computes the values of its kernels from centroids."""
    layers = all_layers(model)
    return any(
        isinstance(part, ClusterWeights) or (isinstance(part, QuantizedLayer) and part.clusters) for part in layers
    )


def cluster_report(model):
    """Return how many distinct values the kernels of a model have.

    Args:
        model: A built model, before, in or after clustering.

    Returns:
        Dict from the path of each kernel that can be clustered to the number of values that the model computes with.

    Raises:
        TypeError: `model` is no layer of Keras 3.
        ValueError: expected a built model; layers that say what to cluster.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5)])
        >>> list(cluster_report(model).values())
        [40]
    """
    owner = "cluster_report"
    expect_model(owner, model)
    values = {}
    for wrapper in _wrappers(model):
        values.update(wrapper.clustered())
    report = {}
    for kernel in clusterable_kernels(model, owner):
        variable = kernel.variable
        path = variable.path
        while path in report:
            path += "_"
        report[path] = len(np.unique(ops.convert_to_numpy(values.get(id(variable), variable))))
    return report


def _wrappers(model):
    return [layer for layer in all_layers(model) if isinstance(layer, ClusterWeights)]


def _expect_clusterable(owner, kernel, number_of_clusters, cluster_per_channel):
    variable, layer = kernel.variable, kernel.layer.name
    floating = isinstance(variable, keras.Variable) and keras.backend.is_float_dtype(variable.dtype)
    expect(floating, owner, "kernels that are floating variables", "Train before you quantize.", layer=layer)
    pruning = isinstance(variable.constraint, PruningConstraint)
    expect(not pruning, owner, "weights that are not being pruned", "Call strip_pruning first.", weight=variable.path)
    weights = ops.convert_to_numpy(variable)
    expect(bool(np.isfinite(weights).all()), owner, "finite weights", "Look for NaN.", weight=variable.path)
    channel = cluster_per_channel and isinstance(kernel.layer, keras.layers.Conv2D)
    size = weights.size // weights.shape[-1] if channel else weights.size
    rule = "number_of_clusters < weights" + " of a channel" * channel
    remedy = "Take fewer, or name the `layers` to cluster."
    got = {"number_of_clusters": number_of_clusters, "weights": size, "layer": layer}
    expect(number_of_clusters < size, owner, rule, remedy, **got)
