"""What a sparsity report counts."""

import re

import keras
import numpy as np
import pytest
from compression import pruned_models
from compression.pruned_models import MODELS, L, sequential

from keras_kicks.compression import ConstantSparsity, prune_low_magnitude, sparsity_report, strip_pruning

pytestmark = pytest.mark.tensorflow


def with_zeros(model):
    """Set every third weight to zero, biases too."""
    for weight in model.weights:
        values = weight.numpy()
        values.ravel()[:] = np.where(np.arange(values.size) % 3 == 0, 0, 1)
        weight.assign(values)
    return model


def rows(report):
    return {row.path: (row.shape, row.weights, row.zeros) for row in report.rows}


def test_rows_are_the_weights_that_can_be_pruned():
    report = sparsity_report(with_zeros(pruned_models.nested()))
    assert rows(report) == {
        "inner/dense/kernel": ((6, 6), 36, 12),
        "shared/kernel": ((6, 6), 36, 12),
        "dense/kernel": ((6, 2), 12, 4),
    }
    assert (report.total.weights, report.total.zeros) == (84, 28)
    assert report.total.sparsity == pytest.approx(1 / 3)
    assert (report.parameters.weights, report.parameters.zeros) == (98, 28 + 2 + 2 + 1)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_has_a_path_of_its_own(name):
    make, count = MODELS[name]
    report = sparsity_report(make())
    assert len({row.path for row in report.rows}) == len(report.rows) == count


def test_what_pruning_added_is_not_counted():
    model = pruned_models.nested()
    plain = sparsity_report(model)
    prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=1))
    prepared = sparsity_report(model)
    assert prepared.parameters.weights == plain.parameters.weights == 98
    assert prepared.total.zeros == 42
    assert rows(sparsity_report(strip_pruning(model))) == rows(prepared)


class Unsaid(keras.layers.Layer):
    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 4), name="table", initializer="zeros")

    def call(self, x):
        return x @ self.table


def test_layers_that_say_nothing_count_too():
    assert rows(sparsity_report(sequential(Unsaid(name="u")))) == {"u/table": ((6, 4), 24, 24)}


def test_a_layer_with_lora_counts_its_parts():
    model = sequential(L.Dense(4, name="d"))
    model.layers[0].enable_lora(2)
    assert {row.shape for row in sparsity_report(model).rows} >= {(6, 2), (2, 4)}


def test_a_model_without_weights_is_not_sparse():
    report = sparsity_report(sequential(L.ReLU()))
    assert (report.rows, report.total.weights, report.total.sparsity) == ((), 0, 0.0)


def test_the_table_has_a_line_for_each_row():
    report = sparsity_report(with_zeros(pruned_models.nested()))
    lines = str(report).splitlines()
    assert lines[0].split() == ["weight", "shape", "weights", "zeros", "sparsity"]
    assert lines[1].split() == ["inner/dense/kernel", "6x6", "36", "12", "33.3%"]
    assert [line.split()[0] for line in lines[4:]] == ["total", "parameters"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: 3, TypeError, "expected a model of Keras 3; got model='builtins.int'."),
        (lambda: keras.Sequential([L.Dense(2)]), ValueError, "expected a built model; got model='sequential'."),
    ],
)
def test_wrong_models_are_refused(make, error, message):
    with pytest.raises(error, match=re.escape(f"sparsity_report: {message}")):
        sparsity_report(make())
