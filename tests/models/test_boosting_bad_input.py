"""What boosting refuses, and in which words."""

import keras
import numpy as np
import pytest

from keras_kicks.models import Boosting, DecisionStump

X, Y = np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 0, 1])


def stump():
    return DecisionStump(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, r"n >= 1; got n=0"),
        ({"n": 2.0}, TypeError, r"an integer for n; got n=2.0"),
        ({"algorithm": "adaboost"}, ValueError, r"algorithm to be one of 'samme', 'samme.r', 'r2', 'gradient'; got"),
        ({"boosting_loss": "linear"}, ValueError, r"boosting_loss to be one of None; got boosting_loss='linear'"),
        ({"algorithm": "r2", "boosting_loss": "huber"}, ValueError, r"boosting_loss to be one of 'linear', 'square'"),
        ({"learning_rate": 0}, ValueError, r"learning_rate > 0; got learning_rate=0"),
        ({"learning_rate": "fast"}, TypeError, r"a number for learning_rate"),
        ({"subsample": 0.5}, ValueError, r"subsample=1 but for algorithm=.gradient.; got subsample=0.5"),
        ({"algorithm": "gradient", "subsample": 1.5}, ValueError, r"0 < subsample <= 1; got subsample=1.5"),
        ({"algorithm": "gradient", "resample": True}, ValueError, r"resample=False for algorithm=.gradient."),
        ({"algorithm": "gradient", "huber_quantile": 1}, ValueError, r"0 < huber_quantile < 1; got huber_quantile=1"),
        ({"seed": 1.5}, TypeError, r"an integer for seed"),
        ({"build_fn": 3}, TypeError, r"build_fn to be a function that returns a keras model, or a keras model; got"),
        ({"build_fn": lambda: None}, TypeError, r"build_fn to return a keras model; got returned='NoneType'. Return"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"Boosting: expected {message}"):
        Boosting(**{"build_fn": stump, "n": 3, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": Y + 1}, r"class ids in \[0, 2\); got found=\[2\]. Map other labels to ids first"),
        ({"y": Y - 0.5}, r"class ids in \[0, 2\)"),
        ({"y": np.array(list("ababab"))}, r"class ids in \[0, 2\), or one-hot rows; got dtype='<U1'"),
        ({"y": np.zeros((6, 3))}, r"class ids of shape \(samples,\), or one-hot rows of 2 columns; got shape=\(6, 3\)"),
        ({"y": Y[:5]}, r"as many labels and weights as inputs; got lengths=\[6, 5\]"),
        ({"y": None}, r"labels; got y=None"),
        ({"sample_weight": np.zeros(6)}, r"sample weights that are not all zero; got sum=0.0"),
        ({"sample_weight": -np.ones(6)}, r"finite weights >= 0; got smallest=-1.0"),
        ({"sample_weight": np.ones((6, 2))}, r"one weight for each sample; got shape=\(6, 2\), samples=6"),
        ({"epochs": 0}, r"epochs >= 1; got epochs=0"),
        ({"rounds": 0}, r"rounds >= 1; got rounds=0"),
        ({"validation_split": 1.5}, r"0 < validation_split < 1; got validation_split=1.5"),
        (
            {"x": X.tolist(), "y": Y.tolist()},
            r"arrays with an axis for the samples; got shapes=\[\(\)\]. A list is a list",
        ),
        ({"x": X[:0], "y": Y[:0]}, r"at least one sample; got samples=0"),
    ],
)
def test_bad_data(arguments, message):
    boosting = Boosting(stump, 3)
    with pytest.raises(ValueError, match=f"Boosting: expected {message}"):
        boosting.fit(**{"x": X, "y": Y, "verbose": 0, **arguments})
    with pytest.raises(ValueError, match=r"Boosting: expected a member; got members=0. Call fit before."):
        boosting.predict(X)


def dense(units, **arguments):
    return keras.Sequential([keras.layers.Dense(units, **arguments)])


@pytest.mark.parametrize(
    ("algorithm", "build_fn", "message"),
    [
        ("samme", lambda: dense(1), r"a learner with an output for each of K >= 2 classes; got outputs=\(None, 1\)"),
        ("r2", lambda: dense(2), r"a learner with outputs of shape \(batch, 1\) for .r2.; got outputs=\(None, 2\)"),
        ("gradient", lambda: dense(4), r"labels in the shape of the learner's outputs; got labels=\(6,\), outputs="),
    ],
)
def test_learners_whose_outputs_do_not_fit(algorithm, build_fn, message):
    boosting = Boosting(build_fn, 3, algorithm)
    boosting.compile("sgd", "mse")
    with pytest.raises(ValueError, match=f"Boosting: expected {message}"):
        boosting.fit(X, Y, verbose=0)


def test_a_learner_that_is_not_compiled():
    with pytest.raises(ValueError, match=r"a compiled learner; got compiled=False. Call compile\(optimizer, loss\)"):
        Boosting(lambda: dense(2), 3).fit(X, Y, verbose=0)


@pytest.mark.parametrize("label", [np.nan, np.inf])
def test_labels_that_are_no_numbers(label):
    with pytest.raises(ValueError, match=r"Boosting: expected finite labels; got not_finite=1. Leave these"):
        Boosting(DecisionStump, 3, "gradient").fit(X, np.array([0, 1, 2, 3, 4, label]), verbose=0)


def test_build_fn_that_returns_another_model_every_time():
    sizes = iter([2, 3, 4])
    boosting = Boosting(lambda: keras.Sequential([keras.layers.Dense(next(sizes)), keras.layers.Dense(2)]), 3)
    boosting.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"build_fn to return the same architecture every time; got first="):
        boosting.fit(X, Y, verbose=0)


@pytest.mark.parametrize("eager", [False, True])
def test_a_loss_that_is_not_finite(eager):
    boosting = Boosting(lambda: dense(1), 3, "gradient", seed=0)
    boosting.compile(keras.optimizers.SGD(1e30), "mse", run_eagerly=eager)
    with pytest.raises(ValueError, match=r"a finite loss of the learner; got loss=\[.*(nan|inf).*round=0. Lower the"):
        boosting.fit(X, Y, epochs=5, verbose=0)


@keras.saving.register_keras_serializable(package="tests")
class Failing(DecisionStump):
    """Has nothing to say from the third round on."""

    rounds = 0

    def fit(self, *args, **kwargs):
        super().fit(*args, **kwargs)
        Failing.rounds += 1
        if Failing.rounds > 2:
            self.left.assign([np.nan, np.nan])


def test_outputs_that_are_not_finite_leave_what_was_there():
    Failing.rounds = 0
    boosting = Boosting(lambda: Failing(2), 5, seed=0)
    with pytest.raises(ValueError, match=r"finite outputs of the learner; got not_finite=\d+, round=2. Lower"):
        boosting.fit(X, Y, verbose=0)
    assert len(boosting.estimator_weights) == 2
    reference = Boosting(stump, 5, seed=0)
    reference.fit(X, Y, rounds=2, verbose=0)
    np.testing.assert_array_equal(boosting.predict(X, verbose=0), reference.predict(X, verbose=0))


def test_nothing_left_to_do():
    boosting = Boosting(stump, 2)
    boosting.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r"fewer than n members; got members=2, n=2. Set n higher to go on."):
        boosting.fit(X, Y, verbose=0)


def test_class_weights_need_classes():
    with pytest.raises(ValueError, match=r"labels of classes for class_weight; got class_weight=\{0: 2.0\}"):
        Boosting(DecisionStump, 3, "r2").fit(X, Y, class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize("given", ["function", "model"])
def test_layers_that_were_adapted_to_a_vocabulary(given):
    lookup = keras.layers.IntegerLookup(output_mode="multi_hot")
    lookup.adapt(np.arange(6))
    model = keras.Sequential([keras.Input((1,), dtype="int64"), lookup, keras.layers.Dense(2)])
    message = r"Boosting: expected no layers that were adapted to a vocabulary or to bins; got layers=\['integer_lookup"
    with pytest.raises(ValueError, match=message):
        Boosting((lambda: model) if given == "function" else model, 3)
