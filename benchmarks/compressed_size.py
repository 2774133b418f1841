"""How small do pruning, clustering and quantization make a model, gzipped?"""

import os
import tempfile

import keras

from benchmarks import networks
from benchmarks.harness import Ratio, Result
from keras_kicks.compression import (
    ConstantSparsity,
    cluster_weights,
    prune_low_magnitude,
    quantize_model,
    save_bfloat16_weights,
    strip_clustering,
    strip_pruning,
    to_bfloat16,
    to_tflite,
)

DENSE = "dense, float32"
SPARSE, SPARSE_INT8 = "80 % zeros, float32", "80 % zeros, int8"


def trained(model, x, y):
    """Train a network for an epoch, so that its weights are not those of the initializer."""
    networks.compiled(keras, model, False).fit(x, y, batch_size=16, verbose=0)
    return model


def run(smoke=False):
    """Write an MLP (784-512-512-10) and a CNN in each form, and measure the files."""
    results = []
    for network in networks.NAMES[:1] if smoke else networks.NAMES:
        x, y = networks.batch(network)

        def make(network=network, x=x, y=y):
            return trained(networks.make(keras, network, smoke), x, y)

        sparse = trained(prune_low_magnitude(make(), ConstantSparsity(0.8, 0, frequency=1)), x, y)
        sparse = strip_pruning(sparse)
        clustered = strip_clustering(trained(cluster_weights(make(), 16, cluster_centroids_init="linear"), x, y))
        quantized = trained(quantize_model(make(), calibration_data=x), x, y)
        both = trained(quantize_model(sparse, calibration_data=x, preserve_sparsity=True), x, y)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.tflite")
            sizes = {
                DENSE: to_tflite(make(), path),
                SPARSE: to_tflite(sparse, path),
                "16 clusters, float32": to_tflite(clustered, path),
                "dense, float16": to_tflite(make(), path, "float16"),
                "dense, weights of bfloat16": save_bfloat16_weights(to_bfloat16(make()), f"{path}.npz"),
                "dense, int8": to_tflite(quantized, path, "int8"),
                SPARSE_INT8: to_tflite(both, path, "int8"),
            }
        values = {name: [size.gzipped_size / 1024] for name, size in sizes.items()}
        ratios = [Ratio(name, DENSE, {SPARSE: 0.35, SPARSE_INT8: 0.12}.get(name)) for name in list(sizes)[1:]]
        results.append(Result(f"Gzipped size of a {network}", "KB", values, ratios))
    return results
