"""Clustering against stock TFMOT on Keras 2, which runs in a process of its own."""

import keras
import numpy as np
import pytest
import stock
from keras import ops

from keras_kicks.compression import cluster_weights, strip_clustering

pytestmark = pytest.mark.tensorflow
L = keras.layers
CLUSTERS, BATCH, STEPS = 5, 16, 4
NAMES = {"LINEAR": "linear", "DENSITY_BASED": "density", "KMEANS_PLUS_PLUS": "kmeans++"}


def model_of(name):
    if name == "mlp":
        return keras.Sequential([keras.Input((12,)), L.Dense(16, activation="tanh"), L.Dense(3)])
    parts = [L.Conv2D(4, 3, activation="tanh"), L.Flatten(), L.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 2)), *parts])


def prepared(name, sparse):
    """Return a model, data, and the model's weights; some of the kernels' are zero if they should be sparse."""
    rng = np.random.default_rng(3)
    model = model_of(name)
    weights = [rng.normal(scale=0.4, size=w.shape).astype("float32") for w in model.weights]
    if sparse:
        weights = [w if w.ndim == 1 else w * (rng.random(w.shape) < 0.6) for w in weights]
    model.set_weights(weights)
    x = rng.normal(size=(BATCH * STEPS, *model.input_shape[1:])).astype("float32")
    return model, x, rng.normal(size=(len(x), 3)).astype("float32")


# Model, initialization, aggregation, preserve_sparsity, cluster_per_channel, optimizer and its learning rate.
CASES = {
    "linear": ("mlp", "LINEAR", "SUM", False, False, "SGD", 0.05),
    "density": ("mlp", "DENSITY_BASED", "SUM", False, False, "SGD", 0.05),
    "kmeans++": ("mlp", "KMEANS_PLUS_PLUS", "SUM", False, False, "SGD", 0.05),
    "avg": ("mlp", "LINEAR", "AVG", False, False, "SGD", 0.05),
    "adam": ("mlp", "LINEAR", "SUM", False, False, "Adam", 0.01),
    "sparse": ("mlp", "LINEAR", "SUM", True, False, "SGD", 0.05),
    "cnn": ("cnn", "DENSITY_BASED", "SUM", False, False, "SGD", 0.05),
    "channels": ("cnn", "LINEAR", "AVG", False, True, "SGD", 0.05),
    "sparse channels": ("cnn", "KMEANS_PLUS_PLUS", "SUM", True, True, "SGD", 0.05),
}


@pytest.fixture(scope="module")
def stock_results():
    arrays = {}
    for case, settings in CASES.items():
        model, x, y = prepared(settings[0], sparse=settings[3])
        arrays.update({f"{case}/x": x, f"{case}/y": y})
        arrays.update({f"{case}/weight{i}": weight for i, weight in enumerate(model.get_weights())})
    return stock.run("clustering", arrays, cases=CASES, clusters=CLUSTERS, batch=BATCH)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_early_steps_are_those_of_stock(case, stock_results):
    """First centroids; losses, weights and centroids after each step; what stripping leaves."""
    name, init, aggregation, sparse, channels, optimizer, rate = CASES[case]
    expected = {key.removeprefix(f"{case}/"): array for key, array in stock_results.items()}
    model, x, y = prepared(name, sparse)
    ours = cluster_weights(model, CLUSTERS, NAMES[init], sparse, channels, aggregation.lower())
    wrapped = [layer for layer in ours.layers if layer.weights]
    for i, layer in enumerate(wrapped):
        close(layer.parts[0].centroids, expected[f"first{i}"])
    ours.compile(getattr(keras.optimizers, optimizer)(rate), "mse", jit_compile=False)
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        ours.reset_metrics()
        assert float(ours.train_on_batch(x[rows], y[rows])) == pytest.approx(expected["losses"][step], abs=1e-6)
        for i, layer in enumerate(wrapped):
            close(layer.layer.kernel, expected[f"kernel{i}_{step}"])
            # TFMOT moves the zero centroid too, and sets it to zero in the next step.
            free = layer.parts[0].free.numpy() if sparse else True
            close(layer.parts[0].centroids, np.where(free, expected[f"centroids{i}_{step}"], 0))
    stripped = strip_clustering(ours)
    for i, layer in enumerate(layer for layer in stripped.layers if layer.weights):
        close(layer.kernel, expected[f"stripped{i}"])
    close(stripped.predict(x, verbose=0), expected["outputs"], 1e-5)


def close(value, expected, bound=1e-6):
    np.testing.assert_allclose(ops.convert_to_numpy(value), expected, rtol=0, atol=bound)
