"""Pruning in rounds: how much in each, what is held, and when it ends."""

import re

import keras
import numpy as np
import pytest
from compression.pruned_models import L, data, sequential, sparsity

from keras_kicks.compression import prune_iteratively, prune_low_magnitude, sparsity_report
from keras_kicks.compression.prune import pruned_variables

pytestmark = pytest.mark.tensorflow


def make():
    model = sequential(L.Dense(20, "relu", name="hidden"), L.Dense(4, name="out"), shape=(10,))
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    return model


def train(model):
    model.fit(*data(model, batches=4), batch_size=8, verbose=0)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_density_falls_by_the_same_factor_in_each_round(scope):
    model = make()
    history = prune_iteratively(model, train, 0.936, rounds=3, scope=scope)
    # 0.064 = 0.4^3 of 280 weights.
    assert [r.number for r in history] == [0, 1, 2, 3]
    densities = [1 - r.sparsity for r in history]
    np.testing.assert_allclose(densities, [1, 0.4, 0.16, 0.064], atol=1.5 / 280)
    assert all(r.kept and r.score is None for r in history)
    layers = [sparsity(layer.kernel) for layer in model.layers]
    if scope == "layer":
        np.testing.assert_allclose(layers, 0.936, atol=1 / 80)
    else:
        assert abs(layers[0] - layers[1]) > 0.02
    assert pruned_variables(model) == []
    assert sparsity_report(model).total.sparsity == history[-1].sparsity


def test_the_smallest_of_what_is_left_go_and_stay_away_in_training():
    model = make()
    kernels = [layer.kernel for layer in model.layers]
    moments = []

    def watch(model):
        moments.append([kernel.numpy() for kernel in kernels])
        # A way of training that is not fit, and an optimizer that the model does not know.
        model.compile(keras.optimizers.Adam(0.1), "mse")
        for _ in range(3):
            model.train_on_batch(*data(model, batches=1))
        moments.append([kernel.numpy() for kernel in kernels])

    start = [kernel.numpy() for kernel in kernels]
    prune_iteratively(model, watch, 0.84, rounds=2)
    begins, ends = moments[::2], moments[1::2]
    for before, begin, kept in ((start, begins[0], 112), (ends[0], begins[1], 45)):
        flat, pruned = (np.concatenate([part.ravel() for part in parts]) for parts in (before, begin))
        threshold = np.sort(np.abs(flat))[-kept]
        np.testing.assert_array_equal(pruned, np.where(np.abs(flat) >= threshold, flat, 0))
    for begin, end in zip(begins, ends, strict=True):
        for one, other in zip(begin, end, strict=True):
            np.testing.assert_array_equal(one == 0, other == 0)
            assert np.abs(one - other).max() > 0.01


def test_the_last_good_weights_are_restored():
    model = make()
    model.layers[0].bias.assign(np.ones(20))
    good = []

    def score(model):
        value = [0.95, 0.9, 0.8, 0.7][len(good)]
        if value >= 0.8:
            good.append(model.get_weights())
        return value

    history = prune_iteratively(model, train, 0.9, rounds=4, score=score, min_score=0.8)
    assert [(r.number, r.score, r.kept) for r in history] == [
        (0, 0.95, True),
        (1, 0.9, True),
        (2, 0.8, True),
        (3, 0.7, False),
    ]
    assert sparsity_report(model).total.sparsity == history[2].sparsity < history[3].sparsity
    # Without the masks, which the model had at that time.
    trained = [w for w in good[2] if w.dtype == "float32"]
    for ours, expected in zip(model.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_model_with_zeros_keeps_them():
    model = make()
    prune_iteratively(model, train, 0.5, rounds=1)
    zero = [layer.kernel.numpy() == 0 for layer in model.layers]
    history = prune_iteratively(model, train, 0.875, rounds=2)
    np.testing.assert_allclose([r.sparsity for r in history], [0.5, 0.75, 0.875], atol=1.5 / 280)
    for layer, before in zip(model.layers, zero, strict=True):
        assert (layer.kernel.numpy()[before] == 0).all()


def test_a_layer_that_is_sparse_enough_stays_as_it_is():
    model = make()
    prune_iteratively(model, train, 0.9, rounds=1, layers="out")
    zero = model.layers[1].kernel.numpy() == 0
    prune_iteratively(model, train, 0.5, rounds=2, scope="layer")
    np.testing.assert_array_equal(model.layers[1].kernel.numpy() == 0, zero)
    assert sparsity(model.layers[0].kernel) == 0.5


def test_only_the_layers_that_are_named_are_pruned():
    model = make()
    prune_iteratively(model, train, 0.75, rounds=1, layers="hidden")
    assert [sparsity(layer.kernel) for layer in model.layers] == [0.75, 0]


def test_an_error_in_training_leaves_a_model_that_can_be_used():
    model = make()

    def fail(model):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        prune_iteratively(model, fail, 0.5, rounds=2)
    assert pruned_variables(model) == []
    train(model)
    assert sparsity(model.layers[0].kernel) == 0


def test_what_training_sets_by_itself_is_pruned_again_before_it_is_scored():
    model = make()
    seen = []

    def average(model):
        for layer in model.layers:
            layer.kernel.assign(layer.kernel + 1)

    def score(model):
        seen.append(sparsity_report(model).total.sparsity)
        return 1

    history = prune_iteratively(model, average, 0.75, rounds=2, score=score)
    assert seen == [r.sparsity for r in history] == [0, 0.5, 0.75]


def test_replicas_prune_together(strategy):
    with strategy.scope():
        model = make()
    history = prune_iteratively(model, train, 0.75, rounds=2)
    assert history[-1].sparsity == 0.75
    first, second = (part.numpy() for part in strategy.experimental_local_results(model.layers[0].kernel.value))
    np.testing.assert_array_equal(first, second)


def unbuilt():
    return keras.Sequential([L.Dense(2)])


def sparse():
    model = make()
    for layer in model.layers:
        layer.kernel.assign(layer.kernel * 0)
    return model


@pytest.mark.parametrize(
    ("make_model", "arguments", "error", "message"),
    [
        (unbuilt, {}, ValueError, "expected a built model; got model="),
        (make, {"train": 3}, TypeError, "expected a function of the model for train; got train=3. Pass lambda"),
        (make, {"final_sparsity": "a"}, TypeError, "expected a number for final_sparsity; got final_sparsity='a'."),
        (make, {"final_sparsity": 1.0}, ValueError, "expected 0 < final_sparsity < 1; got final_sparsity=1.0."),
        (make, {"final_sparsity": 0}, ValueError, "expected 0 < final_sparsity < 1; got final_sparsity=0."),
        (make, {"rounds": 1.5}, TypeError, "expected an integer for rounds; got rounds=1.5."),
        (make, {"rounds": 0}, ValueError, "expected rounds >= 1; got rounds=0."),
        (make, {"score": "accuracy"}, TypeError, "expected a function of the model for score; got score='accuracy'."),
        (make, {"min_score": 0.5}, ValueError, "expected a score with min_score; got score=None, min_score=0.5."),
        (make, {"scope": "model"}, ValueError, "expected scope to be one of 'global', 'layer'; got scope='model'."),
        (sparse, {}, ValueError, "expected a model that is less sparse; got final_sparsity=0.5, sparsity=1.0."),
        (
            make,
            {"score": lambda model: 0.3, "min_score": 0.5},
            ValueError,
            "expected a model that scores min_score before it is pruned; got score=0.3, min_score=0.5. Train it",
        ),
        (make, {"score": lambda model: float("nan")}, ValueError, "expected a finite score; got score=nan."),
    ],
)
def test_wrong_arguments_are_refused(make_model, arguments, error, message):
    model = make_model()
    with pytest.raises(error, match=re.escape(f"prune_iteratively: {message}")):
        prune_iteratively(model, **{"train": train, "final_sparsity": 0.5, "rounds": 2, **arguments})
    assert pruned_variables(model) == [] if model.built else not model.built


def test_a_model_that_is_pruned_already_is_refused():
    from keras_kicks.compression import ConstantSparsity

    model = prune_low_magnitude(make(), ConstantSparsity(0.5, 2))
    with pytest.raises(ValueError, match=re.escape("expected weights that are not pruned yet; got weight=")):
        prune_iteratively(model, train, 0.5, rounds=1)
    assert len(pruned_variables(model)) == 2
