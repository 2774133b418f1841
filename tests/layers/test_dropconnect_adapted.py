"""DropConnect around layers that were quantized, or got a LoRA adapter: right, or refused."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.layers import DropConnect


def array(x):
    return np.array(ops.convert_to_numpy(x))


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def adapted(layer, x):
    """Give a built layer an adapter that is not zero, as after some training."""
    layer.build(x.shape)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    return layer


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("arguments", [{}, {"mask": "sample"}])
def test_a_quantized_layer_infers_and_refuses_to_train(mode, arguments):
    x = normal(3, 8)
    wrapper = DropConnect(layers.Dense(4), 0.5, seed=1, **arguments)
    wrapper.build(x.shape)
    wrapper.layer.quantize(mode)
    np.testing.assert_array_equal(array(wrapper(x)), array(wrapper.layer(x)))
    message = "DropConnect: expected a floating kernel to drop from; got dtypes=['int8']. Train before you quantize."
    with pytest.raises(ValueError, match=re.escape(message)):
        wrapper(x, training=True)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_gaussian_inference_refuses_a_quantized_kernel(mode):
    x = normal(3, 8)
    wrapper = DropConnect(layers.Dense(4, activation="relu"), 0.5, inference="gaussian", seed=1)
    wrapper.build(x.shape)
    wrapper.layer.quantize(mode)
    with pytest.raises(ValueError, match="expected a floating kernel to drop from"):
        wrapper(x)


@pytest.mark.parametrize("adapt", [lambda layer: layer.quantize("int8"), lambda layer: layer.enable_lora(2)])
def test_a_saved_model_of_an_adapted_layer_is_loaded(adapt, tmp_path):
    x = normal(3, 8)
    model = keras.Sequential([keras.Input((8,)), DropConnect(layers.Dense(4), 0.5, seed=1)])
    adapt(model.layers[0].layer)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(loaded(x)), array(model(x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.Dense(4), (3, 8)),
        (lambda: layers.EinsumDense("ab,bc->ac", (4,)), (3, 8)),
        (lambda: layers.Conv1D(4, 2), (3, 5, 8)),
    ],
)
def test_one_mask_for_a_batch_is_refused_with_an_adapter(layer, shape):
    x = normal(*shape)
    wrapper = DropConnect(adapted(layer(), x), 0.5, seed=1)
    np.testing.assert_array_equal(array(wrapper(x)), array(wrapper.layer(x)))
    message = 'DropConnect: expected a kernel that is a variable for mask="batch"; got layer='
    with pytest.raises(ValueError, match=re.escape(message)):
        wrapper(x, training=True)


def test_masks_of_samples_drop_from_the_kernel_and_its_adapter_together():
    """Unit inputs read off the masked sum of both: each entry is 0 or twice what it is without a mask."""
    x = np.eye(20, dtype="float32")
    wrapper = DropConnect(adapted(layers.Dense(30), x), 0.5, mask="sample", seed=1)
    whole, dropped = array(wrapper.layer(x)), array(wrapper(x, training=True))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], rtol=1e-5)
    assert abs(kept.mean() - 0.5) < 5 * 0.5 / np.sqrt(kept.size)
