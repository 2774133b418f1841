"""Stock TFMOT's clustering on Keras 2."""

import numpy as np


def run(arrays, cases, clusters, batch):
    """Cluster models with the weights that are given, train them without shuffling, and return what came of it.

    Args:
        arrays: For each case `<case>/x`, `<case>/y` and `<case>/weight0` to `weight3`.
        cases: As in `test_cluster_stock.py`.
        clusters: Number of clusters.
        batch: Samples of a step.
    """
    results = {}
    for case, settings in cases.items():
        prefix = f"{case}/"
        own = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        results.update({prefix + key: array for key, array in _trained(own, clusters, batch, *settings).items()})
    return results


def _trained(arrays, clusters, batch, name, init, aggregation, sparse, channels, optimizer, rate):
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras  # noqa: TID251
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_config import GradientAggregation
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    layers = keras.layers
    if name == "mlp":
        parts = [layers.Dense(16, activation="tanh"), layers.Dense(3)]
    else:
        parts = [layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([layers.Input(arrays["x"].shape[1:]), *parts])
    model.set_weights([arrays[f"weight{i}"] for i in range(4)])
    model = cluster.cluster_weights(
        model,
        clusters,
        tfmot.clustering.keras.CentroidInitialization[init],
        preserve_sparsity=sparse,
        cluster_per_channel=channels,
        cluster_gradient_aggregation=GradientAggregation[aggregation],
    )
    wrapped = [layer for layer in model.layers if "kernel" in layer.cluster_centroids]
    result = {f"first{i}": layer.cluster_centroids["kernel"].numpy() for i, layer in enumerate(wrapped)}
    model.compile(getattr(keras.optimizers, optimizer)(rate), "mse")
    losses, x, y = [], arrays["x"], arrays["y"]
    for start in range(0, len(x), batch):
        losses.append(model.train_on_batch(x[start : start + batch], y[start : start + batch]))
        for i, layer in enumerate(wrapped):
            result[f"centroids{i}_{start // batch}"] = layer.cluster_centroids["kernel"].numpy()
            result[f"kernel{i}_{start // batch}"] = layer.original_clusterable_weights["kernel"].numpy()
    result["losses"] = np.array(losses)
    stripped = tfmot.clustering.keras.strip_clustering(model)
    for i, layer in enumerate(layer for layer in stripped.layers if layer.weights):
        result[f"stripped{i}"] = layer.kernel.numpy()
    result["outputs"] = stripped.predict(x, verbose=0)
    return result
