"""What the pruning callback writes, refuses and mends."""

import re

import keras
import numpy as np
import pytest
from compression.pruned_models import L, data, sequential, sparsity

from keras_kicks.compression import ConstantSparsity, PolynomialDecay, PruningCallback, prune_low_magnitude

pytestmark = pytest.mark.tensorflow


def read(folder):
    """Return {tag: {step: value}} of the scalars in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    return {tag: {e.step: float(make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)} for tag in tags}


def make(schedule, **kwargs):
    model = sequential(L.Dense(8, name="hidden", use_bias=False), L.Dense(2, name="out", use_bias=False))
    prune_low_magnitude(model, schedule, **kwargs)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    return model


def test_sparsity_and_thresholds_are_written_for_each_epoch(tmp_path):
    model = make(PolynomialDecay(0.25, 0.75, 2, 20, power=1, frequency=1))
    history = model.fit(*data(model), batch_size=8, epochs=2, verbose=0, callbacks=[PruningCallback(tmp_path)])
    found = read(tmp_path / "pruning")
    paths = ["hidden/kernel", "out/kernel"]
    tags = [f"{what}/{path}" for what in ("sparsity", "threshold") for path in paths]
    assert sorted(found) == sorted([*tags, "sparsity/total"])
    # The second update after step 12 is that for step 13: 11 of 18 steps of the decay.
    first = 0.25 + 0.5 * 11 / 18
    for path, size in zip(paths, (48, 16), strict=True):
        assert found[f"sparsity/{path}"][0] == pytest.approx(first, abs=0.5 / size + 1e-6)
        assert found[f"sparsity/{path}"][1] == 0.75
    assert found["sparsity/total"] == pytest.approx(dict(enumerate(history.history["sparsity"])))
    for layer in model.layers:
        kernel = np.abs(layer.kernel.numpy())
        assert found[f"threshold/{layer.name}/kernel"][0] > 0
        assert np.isfinite(found[f"threshold/{layer.name}/kernel"][1])
        assert kernel[kernel > 0].size == kernel.size / 4


@pytest.mark.parametrize("steps", [1, 2])
def test_batches_are_counted_through_all_calls_of_fit(steps, tmp_path):
    model = make(ConstantSparsity(0.5, 15))
    model.compile("sgd", "mse", steps_per_execution=steps)
    callback = PruningCallback(tmp_path, update_freq=4)
    for _ in range(2):
        model.fit(*data(model, batches=10), batch_size=8, verbose=0, callbacks=[callback])
    assert read(tmp_path / "pruning")["sparsity/hidden/kernel"] == {4: 0, 8: 0, 12: 0, 16: 0.5, 20: 0.5}


def test_without_a_directory_the_history_has_the_sparsity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make(ConstantSparsity(0.5, 14))
    history = model.fit(*data(model), batch_size=8, epochs=2, verbose=0, callbacks=[PruningCallback()])
    assert history.history["sparsity"] == [0, 0.5]
    assert list(tmp_path.iterdir()) == []


def test_m_by_n_has_no_threshold(tmp_path):
    model = make(ConstantSparsity(0.5, 0), sparsity_m_by_n=(1, 4), layers="hidden")
    model.fit(*data(model), batch_size=8, verbose=0, callbacks=[PruningCallback(tmp_path)])
    found = read(tmp_path / "pruning")
    # Of 6 inputs, 4 and 2: one of the first, and maybe none of the rest, which TFMOT fills with zeros.
    assert sorted(found) == ["sparsity/hidden/kernel", "sparsity/total"]
    assert found["sparsity/total"][0] == pytest.approx(8 / 48)


def test_averages_of_weights_are_pruned_when_training_ends():
    model = make(ConstantSparsity(0.5, 6, frequency=1000))
    x, y = data(model)
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    model.fit(x, y, batch_size=8, verbose=0)
    # Without the callback, averages of what was there before are not zero.
    assert sparsity(model.layers[0].kernel) < 0.5
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[PruningCallback()])
    assert sparsity(model.layers[0].kernel) == 0.5


def test_a_model_that_was_not_prepared_is_refused():
    model = sequential(L.Dense(2), L.Dense(2))
    before = model.get_weights()
    model.compile("sgd", "mse")
    message = "PruningCallback: expected a model from prune_low_magnitude; got model='sequential'. Call it before"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        model.fit(*data(model), verbose=0, callbacks=[PruningCallback()])
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


@pytest.mark.parametrize(
    ("update_freq", "error", "message"),
    [
        (0, ValueError, "expected update_freq >= 1; got update_freq=0."),
        ("batch", TypeError, "expected an integer for update_freq; got update_freq='batch'."),
    ],
)
def test_wrong_arguments_are_refused(update_freq, error, message):
    with pytest.raises(error, match=re.escape(f"PruningCallback: {message}")):
        PruningCallback(update_freq=update_freq)
