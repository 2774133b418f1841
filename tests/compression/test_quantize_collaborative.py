"""Quantization-aware training that keeps what pruning and clustering reached."""

import functools

import keras
import numpy as np
import pytest

from keras_kicks.compression import (
    ConstantSparsity,
    cluster_weights,
    predict_tflite,
    prune_low_magnitude,
    quantize_model,
    strip_clustering,
    strip_pruning,
    to_tflite,
)
from keras_kicks.compression.quantized_layer import QuantizedLayer

pytestmark = pytest.mark.tensorflow
L = keras.layers
CLUSTERS = 6


def data():
    generator = np.random.default_rng(3)
    return generator.normal(size=(48, 6, 6, 2)).astype("float32"), generator.integers(0, 3, 48)


def small():
    return keras.Sequential(
        [keras.Input((6, 6, 2)), L.Conv2D(5, 3), L.ReLU(), L.Flatten(), L.Dense(12, activation="relu"), L.Dense(3)]
    )


def trained(model, epochs=1, rate=0.01):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(*data(), batch_size=16, epochs=epochs, verbose=0)
    return model


@functools.cache
def pruned():
    return strip_pruning(trained(prune_low_magnitude(small(), ConstantSparsity(0.5, 0, frequency=1))))


@functools.cache
def clustered(zeros=False, per_channel=False):
    model = pruned() if zeros else small()
    model = cluster_weights(model, CLUSTERS, "linear", preserve_sparsity=zeros, cluster_per_channel=per_channel)
    return strip_clustering(trained(model, epochs=1, rate=1e-3))


def rounded(model):
    """Return the weights that a quantized model computes with."""
    return [w for layer in model.layers if isinstance(layer, QuantizedLayer) for w in layer.rounded_weights().values()]


def kernels(model):
    return [keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")]


def values_of_channels(kernel):
    """Return the largest number of different values of a slice of the last axis."""
    return max(len(np.unique(kernel[..., i])) for i in range(kernel.shape[-1]))


def test_zeros_stay_where_they_were():
    model = pruned()
    quantized = trained(quantize_model(model, data()[0], preserve_sparsity=True))
    for before, after in zip(kernels(model), rounded(quantized), strict=True):
        assert (before == 0).mean() >= 0.4
        assert (after[before == 0] == 0).all()
        assert not np.allclose(before, after, atol=1e-3)


def test_without_the_argument_they_do_not():
    model = pruned()
    quantized = trained(quantize_model(model, data()[0]))
    assert any(
        (after[before == 0] != 0).any() for before, after in zip(kernels(model), rounded(quantized), strict=True)
    )


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_kernel_keeps_the_number_of_its_values_and_trains_them(per_channel):
    model = clustered(per_channel=per_channel)
    quantized = quantize_model(model, data()[0], preserve_clusters="per_channel" if per_channel else True)
    first = rounded(quantized)
    trained(quantized)
    for before, start, after in zip(kernels(model), first, rounded(quantized), strict=True):
        # Half a step of the grid of 8 bits.
        assert np.abs(start - before).max() <= np.abs(before).max() / 254 + 1e-6
        assert values_of_channels(after) <= CLUSTERS
        assert not np.allclose(after, start, atol=1e-3)


def test_without_the_argument_clusters_dissolve():
    quantized = trained(quantize_model(clustered(), data()[0]))
    assert max(len(np.unique(w)) for w in rounded(quantized)) > CLUSTERS


def test_zeros_and_clusters_are_kept_together():
    model = clustered(zeros=True)
    quantized = trained(quantize_model(model, data()[0], preserve_sparsity=True, preserve_clusters=True))
    for before, after in zip(kernels(model), rounded(quantized), strict=True):
        assert (before == 0).mean() >= 0.4
        assert (after[before == 0] == 0).all()
        assert values_of_channels(after) <= CLUSTERS


def test_a_kernel_that_is_not_clustered_trains_freely():
    model = small()
    dense = model.layers[-1]
    values = keras.ops.convert_to_numpy(dense.kernel)
    dense.kernel.assign(np.where(values > 0, 0.25, -0.25))
    quantized = trained(quantize_model(model, data()[0], preserve_clusters=True))
    *others, last = rounded(quantized)
    assert values_of_channels(last) <= 2
    assert all(values_of_channels(kernel) > CLUSTERS for kernel in others)


def test_saved_and_loaded_it_goes_on_as_it_would_have(tmp_path):
    quantized = trained(
        quantize_model(clustered(zeros=True), data()[0], preserve_sparsity=True, preserve_clusters=True)
    )
    quantized.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for model in (quantized, loaded):
        model.fit(*data(), batch_size=16, epochs=1, shuffle=False, verbose=0)
    for weight, other in zip(quantized.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_the_file_holds_as_few_integers(tmp_path):
    quantized = trained(quantize_model(clustered(), data()[0], preserve_clusters=True))
    path = to_tflite(quantized, tmp_path / "model.tflite", mode="int8").path
    predicted = quantized.predict(data()[0], verbose=0)
    np.testing.assert_allclose(predict_tflite(path, data()[0]), predicted, atol=0.05 * np.abs(predicted).max())
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    tensors = [t for t in interpreter.get_tensor_details() if t["dtype"] is np.int8 and len(t["shape"]) in (2, 4)]
    operands = {i for op in interpreter._get_ops_details() for i in op["inputs"]}
    held = []
    for tensor in tensors:
        if tensor["index"] in operands:
            try:
                held.append(interpreter.get_tensor(tensor["index"]))
            except ValueError:
                continue  # It is computed, not held.
    by_channel = [max(len(np.unique(channel)) for channel in weights) for weights in held]
    assert len(by_channel) == 3
    assert max(by_channel) <= CLUSTERS


def test_stripped_it_rounds_the_same_weights():
    quantized = trained(quantize_model(clustered(), data()[0], preserve_clusters=True))
    stripped = strip_clustering(quantized)
    np.testing.assert_array_equal(stripped.predict(data()[0], verbose=0), quantized.predict(data()[0], verbose=0))
    assert len(stripped.trainable_weights) == len(quantized.trainable_weights) - 3


def test_another_way_to_preserve_clusters_is_refused():
    message = r"quantize_model: expected preserve_clusters to be one of False, True, 'per_channel'; got"
    with pytest.raises(ValueError, match=message):
        quantize_model(small(), preserve_clusters="channel")


def test_clusters_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"quantize_model: expected clustered kernels to preserve; got model="):
        quantize_model(small(), preserve_clusters=True)
