"""The rules of early stopping, against Prechelt's formulas in NumPy and Keras's callback, on random error curves."""

import math
import types

import keras
import numpy as np
import pytest

from keras_kicks.callbacks import GL, PQ, UP, LowProgress, Patience, StoppingCheck, StoppingRule

CURVES = range(40)
LENGTH = 60


def curves(seed):
    """Return training and validation errors that fall, level out and rise, with noise; some of them steeply."""
    rng = np.random.default_rng(seed)
    t = np.arange(LENGTH)
    training = 0.1 + np.exp(-t / rng.uniform(3, 20)) * (1 + rng.uniform(0, 0.1) * rng.normal(size=LENGTH))
    rise = rng.uniform(0, 0.02) * np.maximum(0, t - rng.integers(0, LENGTH))
    return training, 0.2 + np.exp(-t / rng.uniform(3, 10)) + rise + rng.uniform(0, 0.02) * rng.random(LENGTH)


def stops(rule, training, validation):
    """Return the first check, from 0, after which a rule stops, or None."""
    rule.start()
    for t, (a, b) in enumerate(zip(training, validation, strict=True)):
        if rule.check(StoppingCheck(t, t + 1, t + 1, {"loss": float(a), "val_loss": float(b)})):
            return t
    return None


def first(holds):
    return int(np.argmax(holds)) if np.any(holds) else None


def generalization_loss(validation):
    return np.array([100 * (validation[t] / validation[: t + 1].min() - 1) for t in range(LENGTH)])


def progress(training, k):
    """P_k; NaN where there is no strip yet."""
    strips = [training[t - k + 1 : t + 1] for t in range(k - 1, LENGTH)]
    return np.array([math.nan] * (k - 1) + [1000 * (s.sum() / (k * s.min()) - 1) for s in strips])


def rises(validation, s, k, t):
    """Prechelt's recursion, with t counted from 1: UP_s stops where UP_(s-1) did a strip ago and the error rose."""
    return s == 0 or (t - k >= k and validation[t - 1] > validation[t - k - 1] and rises(validation, s - 1, k, t - k))


def compare(rule, expected):
    """Compare a rule with a function of the curves on all of them; it must have stopped here and there, not at once."""
    found = []
    for seed in CURVES:
        training, validation = curves(seed)
        found.append(stops(rule, training, validation))
        assert found[-1] == expected(training, validation), seed
        seen = validation[: LENGTH if found[-1] is None else found[-1] + 1]
        if rule.monitor == "val_loss":
            assert rule.best_check.epoch == np.argmin(seen)
            assert rule.best == seen.min()
    assert len(set(found)) > 3


@pytest.mark.parametrize("alpha", [1, 5, 20])
def test_generalization_loss(alpha):
    compare(GL(alpha), lambda training, validation: first(generalization_loss(validation) > alpha))


@pytest.mark.parametrize(("alpha", "k"), [(0.5, 5), (0.1, 3), (3.0, 7)])
def test_progress_quotient(alpha, k):
    def expected(training, validation):
        quotient = generalization_loss(validation) / progress(training, k)
        return first((quotient > alpha) & ((np.arange(LENGTH) + 1) % k == 0))

    compare(PQ(alpha, strip=k), expected)


@pytest.mark.parametrize(("least", "k"), [(5.0, 5), (20.0, 3)])
def test_low_progress(least, k):
    def expected(training, validation):
        return first((progress(training, k) < least) & ((np.arange(LENGTH) + 1) % k == 0))

    compare(LowProgress(least, strip=k), expected)


@pytest.mark.parametrize(("s", "k"), [(1, 5), (2, 5), (3, 2), (4, 1)])
def test_successive_rises(s, k):
    def expected(training, validation):
        return first([t % k == 0 and rises(validation, s, k, t) for t in range(1, LENGTH + 1)])

    compare(UP(s, strip=k), expected)


def test_successive_falls_of_what_should_rise():
    training, validation = curves(3)
    rule = UP(2, monitor="val_accuracy", mode="max")
    found = []
    for t, error in enumerate(validation):
        found.append(rule.check(StoppingCheck(t, t, t, {"val_accuracy": 1 - error})))
    assert any(found)
    assert first(found) == stops(UP(2), training, validation)
    assert rule.best == 1 - validation.min()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("baseline", [None, 20 / 64])
@pytest.mark.parametrize(("patience", "min_delta"), [(0, 0), (1, 0), (3, 0), (4, 1 / 64)])
def test_patience_is_that_of_keras(mode, baseline, patience, min_delta):
    found = []
    sign = 1 if mode == "min" else -1
    for seed in CURVES[:12]:
        # In steps of 1 / 64, so that ties and changes of just min_delta occur, and no sum is rounded.
        values = sign * np.round(curves(seed)[1][:30] * 64) / 64
        limit = None if baseline is None else sign * baseline
        peer = keras.callbacks.EarlyStopping(
            "val_metric", min_delta, patience, mode=mode, baseline=limit, restore_best_weights=True
        )
        model = types.SimpleNamespace(stop_training=False, get_weights=list, distribute_strategy=None)
        peer.set_model(model)
        peer.on_train_begin()
        rule = Patience(patience, "val_metric", mode, min_delta, limit)
        for t, value in enumerate(values):
            peer.on_epoch_end(t, {"val_metric": value})
            assert rule.check(StoppingCheck(t, t, t, {"val_metric": value})) == model.stop_training
            assert rule.best == peer.best
            assert rule.best_check.epoch == peer.best_epoch
            if model.stop_training:
                break
        found.append(t)
    assert len(set(found)) > 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_is_never_the_best(bad, mode):
    rule = Patience(3, "val_metric", mode)
    verdicts = []
    for t, value in enumerate([bad, 1.0, bad, bad, bad, 1.0]):
        verdicts.append(rule.check(StoppingCheck(t, t, t, {"val_metric": value})))
        assert rule.improved == (t == 1)
    assert rule.best == 1.0
    assert rule.best_check.epoch == 1
    assert verdicts == [False, False, False, False, True, True]


def test_what_is_not_finite_is_worse_than_any_number():
    ones = np.ones(10)
    assert stops(GL(1e9), ones, [*ones[:4], math.nan, *ones[5:]]) == 4
    assert stops(GL(1e9), ones, [math.nan] * 10) == 0
    # Looked at where strips end: a training error that is not finite is no progress.
    validation = [*ones[:4], *(2 * ones[4:])]
    falling = 2.0 ** -np.arange(10)
    assert stops(PQ(10.0, strip=5), falling, validation) is None
    assert stops(PQ(10.0, strip=5), [*falling[:7], math.nan, *falling[8:]], validation) == 9
    assert stops(UP(1, strip=2), ones, [1, 1, 1, math.inf, 1, 1, 1, 1, 1, 1]) == 3
    assert stops(UP(2, strip=2), ones, [1, 1, 1, math.nan, 1, math.nan, 1, 1, 1, 1]) == 5


def test_errors_of_zero():
    ones = np.ones(10)
    assert stops(GL(5), ones, [1, 0, 0, 0, 1e-9, 0, 0, 0, 0, 0]) == 4
    assert stops(GL(5), ones, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]) is None
    # No progress and no loss: 0 / 0 is no reason; no progress and a loss is.
    assert stops(PQ(5, strip=2), ones, ones) is None
    assert stops(PQ(5, strip=2), 0 * ones, [1, 1, 1, 1.01, 1, 1, 1, 1, 1, 1]) == 3
    assert stops(LowProgress(strip=2), [1, 0, *ones[2:]], ones) == 3


def test_a_rule_starts_anew():
    for rule in (GL(2), PQ(0.1), UP(1), LowProgress(5.0), Patience(3)):
        stopping = [stops(rule, *curves(seed)) for seed in (1, 2, 1, 2)]
        assert stopping[:2] == stopping[2:]
        assert stopping != [None] * 4


def test_names_of_rules():
    assert [rule.label for rule in (GL(5), PQ(0.5), UP(3), Patience(7))] == ["GL_5", "PQ_0.5", "UP_3", "Patience_7"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GL(-1), ValueError, "GL: expected alpha >= 0; got alpha=-1."),
        (lambda: GL(math.nan), ValueError, "GL: expected a finite alpha; got alpha=nan."),
        (lambda: GL("5"), TypeError, "GL: expected a number for alpha; got alpha='5'."),
        (lambda: PQ(-0.5), ValueError, "PQ: expected alpha >= 0; got alpha=-0.5."),
        (lambda: PQ(strip=1), ValueError, "PQ: expected strip >= 2; got strip=1."),
        (lambda: PQ(train_monitor=3), TypeError, "PQ: expected a name for train_monitor; got train_monitor=3."),
        (lambda: UP(0), ValueError, "UP: expected strips >= 1; got strips=0."),
        (lambda: UP(1.5), TypeError, "UP: expected an integer for strips; got strips=1.5."),
        (lambda: UP(strip=0), ValueError, "UP: expected strip >= 1; got strip=0."),
        (lambda: LowProgress(0), ValueError, "LowProgress: expected least > 0; got least=0."),
        (lambda: Patience(-1), ValueError, "Patience: expected patience >= 0; got patience=-1."),
        (lambda: Patience(min_delta=-1), ValueError, "Patience: expected min_delta >= 0; got min_delta=-1."),
        (
            lambda: Patience(mode="low"),
            ValueError,
            "Patience: expected mode to be one of 'min', 'max'; got mode='low'.",
        ),
        (lambda: Patience(monitor=1), TypeError, "Patience: expected a name for monitor; got monitor=1."),
        (
            lambda: Patience(monitor="val_accuracy"),
            ValueError,
            'Patience: expected mode="min" or mode="max" for this metric; got monitor=\'val_accuracy\', mode=None.',
        ),
        (
            lambda: stops(GL(), [1.0], [-1.0]),
            ValueError,
            "GL: expected val_loss >= 0; got val_loss=-1.0. Take Patience or UP for a loss that may be negative.",
        ),
        (
            lambda: stops(PQ(), [-2.0], [1.0]),
            ValueError,
            "PQ: expected loss >= 0; got loss=-2.0. Take Patience or UP for a loss that may be negative.",
        ),
        (lambda: stops(StoppingRule(), [1.0], [1.0]), NotImplementedError, ""),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message
