"""What pruning refuses, and how it says so."""

import re
import sys

import keras
import numpy as np
import pytest
from compression import pruned_models
from compression.pruned_models import L, attention, sequential

from keras_kicks.compression import ConstantSparsity, PolynomialDecay, prune_low_magnitude, strip_pruning
from keras_kicks.compression._tfmot import tfmot

pytestmark = pytest.mark.tensorflow


def schedule():
    return ConstantSparsity(0.5, begin_step=0)


class Unsaid(keras.layers.Layer):
    """A layer that does not say what to prune."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(input_shape[-1], 4), name="table")

    def call(self, x):
        return x @ self.table


class Late(keras.Model):
    """A model whose layer is never called."""

    def __init__(self):
        super().__init__()
        self.a, self.b = L.Dense(2, name="a"), L.Dense(2, name="b")

    def call(self, x):
        return self.a(x)


def dense():
    return sequential(L.Dense(4, name="hidden"))


def convolution():
    return sequential(L.Conv2D(4, 3, name="conv"), shape=(8, 8, 3))


def late():
    model = Late()
    with pytest.warns(UserWarning, match="unbuilt state"):
        model(np.ones((1, 3)))
    return model


def low_rank():
    model = dense()
    model.layers[0].enable_lora(2)
    return model


def pruned():
    return prune_low_magnitude(dense(), schedule())


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        (dict, {}, TypeError, "expected a model of Keras 3; got model='builtins.dict'. Models of tf_keras"),
        (lambda: keras.Sequential([L.Dense(2)], name="m"), {}, ValueError, "expected a built model; got model='m'."),
        (lambda: sequential(L.ReLU()), {}, ValueError, "expected a model with weights to prune; got model="),
        (late, {}, ValueError, "expected layers that are built; got layer='b'. Call the model first."),
        (low_rank, {}, ValueError, "expected weights that are floating variables; got layer='hidden'. Prune before"),
        (pruned, {}, ValueError, "expected weights that are not pruned yet; got weight='sequential/hidden/kernel'."),
        (lambda: sequential(Unsaid(name="u")), {}, ValueError, "expected layers that say what to prune; got layer='u'"),
        (dense, {"pruning_schedule": 0.5}, TypeError, "expected a pruning schedule; got pruning_schedule=0.5. Pass"),
        (dense, {"block_size": 2}, TypeError, "expected two integers for block_size; got block_size=2."),
        (dense, {"block_size": (0, 1)}, ValueError, "expected block_size >= 1; got block_size=(0, 1)."),
        (dense, {"block_size": (1, 1.5)}, TypeError, "expected an integer for block_size; got block_size=1.5."),
        (dense, {"block_pooling_type": "SUM"}, ValueError, "expected block_pooling_type to be one of 'AVG', 'MAX'"),
        (dense, {"sparsity_m_by_n": (4, 4)}, ValueError, "expected 0 < m < n; got sparsity_m_by_n=(4, 4)."),
        (dense, {"sparsity_m_by_n": (0, 4)}, ValueError, "expected 0 < m < n; got sparsity_m_by_n=(0, 4)."),
        (dense, {"sparsity_m_by_n": "24"}, TypeError, "expected two integers for sparsity_m_by_n; got"),
        (dense, {"sparsity_m_by_n": (2, 4), "block_size": (2, 2)}, ValueError, "expected blocks or m by n, not both"),
        (dense, {"sparsity_m_by_n": (2, 4), "scope": "global"}, ValueError, 'expected scope="layer" with blocks or'),
        (dense, {"scope": "model"}, ValueError, "expected scope to be one of 'layer', 'global'; got scope='model'."),
        (convolution, {"block_size": (2, 2)}, ValueError, "expected kernels of rank 2 for blocks; got weight="),
        (
            lambda: sequential(L.Conv1D(4, 3), shape=(8, 3)),
            {"sparsity_m_by_n": (2, 4)},
            ValueError,
            "expected kernels of rank 2 or 4 for m by n; got weight='sequential/conv1d/kernel', rank=3. Name the",
        ),
        (dense, {"layers": "hiden"}, ValueError, "expected layers of the model; got layers='hiden'. It has: "),
        (dense, {"layers": [3]}, TypeError, "expected layers, or names of layers; got layers=3."),
        (
            lambda: sequential(L.Dense(2), L.ReLU(name="r")),
            {"layers": "r"},
            ValueError,
            "expected layers with weights to prune; got layers='r'. Leave the layer out",
        ),
        (attention, {"layers": "query"}, ValueError, "expected attention layers as a whole; got layers="),
    ],
)
def test_wrong_arguments_are_refused(make, arguments, error, message):
    model = make()
    before = len(getattr(model, "variables", ()))
    with pytest.raises(error, match=re.escape(f"prune_low_magnitude: {message}")):
        prune_low_magnitude(model, **{"pruning_schedule": schedule(), **arguments})
    # Nothing is half prepared.
    assert len(getattr(model, "variables", ())) == before


def test_sparsity_outside_its_range_is_refused():
    for make in (lambda: ConstantSparsity(80, 0), lambda: PolynomialDecay(0, 1.0, 0, 10)):
        with pytest.raises(ValueError, match=r"sparsity must be in range \[0,1\)"):
            make()


@pytest.mark.parametrize(("value", "shown"), [(1.0, "1.0"), (-0.5, "-0.5"), (float("nan"), "nan")])
def test_sparsity_of_ones_own_schedule_is_looked_at(value, shown):
    class Own(tfmot("sparsity.keras.pruning_schedule").PruningSchedule):
        def __call__(self, step):
            return True, value

        def get_config(self):
            return {}

    message = f"prune_low_magnitude: expected a schedule with 0 <= sparsity < 1; got sparsity={shown}, step=1."
    with pytest.raises(ValueError, match=re.escape(message)):
        prune_low_magnitude(dense(), Own())


def test_a_decay_without_steps_is_refused():
    with pytest.raises(ValueError, match=re.escape("got sparsity=nan, step=4.")):
        prune_low_magnitude(dense(), PolynomialDecay(0.1, 0.5, 4, 4))


def test_stripping_refuses_what_was_not_prepared():
    with pytest.raises(ValueError, match=re.escape("strip_pruning: expected a model from prune_low_magnitude; got")):
        strip_pruning(dense())


def test_without_tfmot_the_error_names_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tensorflow_model_optimization")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    message = "keras_kicks.compression: expected tensorflow-model-optimization to be installed; got ModuleNotFoundError"
    with pytest.raises(ImportError, match=re.escape(message)) as caught:
        prune_low_magnitude(dense(), None)
    assert str(caught.value).endswith('pip install "keras-kicks[compression]"')


def test_one_threshold_needs_an_optimizer():
    model = prune_low_magnitude(dense(), ConstantSparsity(0.5, begin_step=2, frequency=1), scope="global")
    kernel = model.layers[0].kernel
    with pytest.raises(
        RuntimeError, match=re.escape('expected an optimizer of Keras to apply it, with scope="global"')
    ):
        kernel.constraint(kernel)


def test_a_kernel_that_was_not_prepared_is_refused():
    model = prune_low_magnitude(dense(), schedule())
    other = dense().layers[0].kernel
    with pytest.raises(RuntimeError, match=re.escape("PruningConstraint: expected a kernel that was prepared; got")):
        model.layers[0].kernel_constraint(other)


def test_an_own_layer_in_named_layers_need_not_say_anything():
    model = sequential(Unsaid(), L.Dense(4, name="hidden"))
    prune_low_magnitude(model, schedule(), layers="hidden")
    assert pruned_models.sparsity(model.layers[1].kernel) == 0
