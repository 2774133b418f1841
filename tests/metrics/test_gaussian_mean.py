"""GaussianMean passes the means on, and no variance."""

import keras
import numpy as np
import pytest

from keras_kicks.losses import GaussianNLL
from keras_kicks.metrics import GaussianMean


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_result_is_the_metric_of_the_means_over_all_batches():
    y, outputs, weights = drawn(9, 2), drawn(9, 4, seed=1), np.random.default_rng(2).random(9)
    metric = GaussianMean(keras.metrics.MeanSquaredError())
    for part in (slice(0, 4), slice(4, 9)):
        metric.update_state(y[part], outputs[part], weights[part])
    squares = ((y - outputs[:, :2]) ** 2).mean(axis=1)
    assert float(metric.result()) == pytest.approx((squares * weights).sum() / weights.sum(), rel=1e-5)
    metric.reset_state()
    metric.update_state(y, outputs)
    assert float(metric.result()) == pytest.approx(squares.mean(), rel=1e-5)


@pytest.mark.parametrize("shape", [(9,), (3, 4)])
def test_one_target_without_an_axis(shape):
    y, outputs = drawn(*shape), drawn(*shape, 2, seed=1)
    metric = GaussianMean(keras.metrics.MeanAbsoluteError())
    metric.update_state(y, outputs)
    assert float(metric.result()) == pytest.approx(np.abs(y - outputs[..., 0]).mean(), rel=1e-5)


def test_in_fit_and_in_a_saved_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", GaussianNLL(), metrics=[GaussianMean(keras.metrics.RootMeanSquaredError(name="rmse"))])
    x, y = drawn(16, 3), drawn(16, 1, seed=1)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = loaded.evaluate(x, y, verbose=0, return_dict=True)
    means = model.predict(x, verbose=0)[:, :1]
    assert found["rmse"] == pytest.approx(np.sqrt(((y - means) ** 2).mean()), rel=1e-5)


def test_what_is_no_metric():
    with pytest.raises(
        TypeError, match=r"GaussianMean: expected metric to be a keras.metrics.Metric; got metric='mae'\."
    ):
        GaussianMean("mae")
