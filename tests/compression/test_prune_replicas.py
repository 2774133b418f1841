"""Pruning under tf.distribute: two replicas make the masks that one device makes."""

import keras
import numpy as np
import pytest
from compression.pruned_models import MODELS, data, sparsity

from keras_kicks.compression import PolynomialDecay, PruningCallback, prune_low_magnitude, sparsity_report
from keras_kicks.compression import strip_pruning as strip
from keras_kicks.compression.prune import pruned_variables

pytestmark = pytest.mark.tensorflow


def pruned(weights, scope="layer"):
    model = MODELS["maxout"][0]()
    model.set_weights(weights)
    prune_low_magnitude(model, PolynomialDecay(0.2, 0.8, 1, 12, frequency=3), scope=scope)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    return model


@pytest.fixture
def weights():
    return MODELS["maxout"][0]().get_weights()


def fit(model, callbacks=()):
    model.fit(*data(model), batch_size=8, verbose=0, shuffle=False, callbacks=list(callbacks))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_two_replicas_are_as_one_device(scope, weights, strategy):
    single = pruned(weights, scope)
    fit(single)
    with strategy.scope():
        model = pruned(weights, scope)
    fit(model, [PruningCallback()])
    for ours, theirs in zip(model.variables, single.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=1e-6, err_msg=ours.path)
    for kernel in pruned_variables(model):
        first, second = (part.numpy() for part in strategy.experimental_local_results(kernel.value))
        np.testing.assert_array_equal(first, second)
    total = sparsity_report(model).total
    assert total.sparsity == pytest.approx(0.8, abs=0.03)
    before = [kernel.numpy() for kernel in pruned_variables(model)]
    kernels = pruned_variables(model)
    strip(model)
    assert all((kernel.numpy() == values).all() for kernel, values in zip(kernels, before, strict=True))


def test_a_model_may_be_prepared_outside_the_scope(weights, strategy):
    single = pruned(weights)
    fit(single)
    with strategy.scope():
        model = MODELS["maxout"][0]()
        model.set_weights(weights)
    prune_low_magnitude(model, PolynomialDecay(0.2, 0.8, 1, 12, frequency=3))
    with strategy.scope():
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    fit(model)
    for ours, theirs in zip(pruned_variables(model), pruned_variables(single), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=1e-6)


def test_replicas_go_on_from_a_file_of_replicas(weights, strategy, tmp_path):
    with strategy.scope():
        model = pruned(weights)
    x, y = data(model)
    model.fit(x[:40], y[:40], batch_size=8, verbose=0, shuffle=False)
    model.save(tmp_path / "m.keras")
    with strategy.scope():
        loaded = keras.models.load_model(tmp_path / "m.keras")
    single = keras.models.load_model(tmp_path / "m.keras")
    for other in (model, loaded, single):
        other.fit(x[40:], y[40:], batch_size=8, verbose=0, shuffle=False)
    assert sparsity(pruned_variables(model)[0]) == pytest.approx(0.8, abs=0.03)
    for ours, theirs, alone in zip(model.variables, loaded.variables, single.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
        np.testing.assert_allclose(ours.numpy(), alone.numpy(), rtol=0, atol=1e-6, err_msg=ours.path)
