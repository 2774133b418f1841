"""EarlyStopping in `fit`: Keras's callback and training that had stopped there are its oracles."""

import re
import warnings

import event_files
import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.callbacks import GL, PQ, UP, EarlyStopping, LowProgress, Patience

BATCH, BATCHES = 8, 5
not_torch = pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="Keras refuses executions of several steps there; torch's compiler warns.",
)


def make_data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH * BATCHES, 6)).astype("float32")
    return x, (x[:, :1] + rng.normal(size=(len(x), 1)) > 0).astype("float32")


def make_model(optimizer=None, noise=True, **compiled):
    """Return a model with all kinds of state: statistics, dropout, moments."""
    keras.utils.set_random_seed(7)
    parts = [layers.Dense(16, "relu"), layers.BatchNormalization(momentum=0.9), layers.Dropout(0.3, seed=3)]
    model = keras.Sequential([keras.Input((6,)), *(parts if noise else parts[:1]), layers.Dense(1, "sigmoid")])
    model.compile(optimizer or keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"], **compiled)
    return model


def state(model):
    return [ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def fit(model, epochs, *callbacks, **arguments):
    x, y = make_data()
    arguments = {"validation_data": make_data(1), "shuffle": False, "verbose": 0, "batch_size": BATCH, **arguments}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **arguments).history


class StopAfter(keras.callbacks.Callback):
    """Stops after a number of steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.model.stop_training = True


def test_patience_stops_and_restores_as_keras_does():
    peer = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    model, same = make_model(), make_model()
    history = fit(model, 40, peer)
    stopping = EarlyStopping(Patience(3))
    assert fit(same, 40, stopping) == history
    assert_same(same.get_weights(), model.get_weights())
    epochs = len(history["loss"])
    assert 4 < epochs < 40
    assert stopping.best.epoch == peer.best_epoch == epochs - 4
    assert stopping.best.step == BATCHES * (epochs - 3)
    assert stopping.stopped.epoch == peer.stopped_epoch
    assert [check.values["val_loss"] for check in stopping.checks] == history["val_loss"]


def test_the_rules_see_what_fit_has_found():
    rules = [GL(3.0), PQ(0.3, strip=2), UP(2, strip=2), LowProgress(0.001, strip=2)]
    stopping = EarlyStopping(rules, "all", start_from=1, restore_best=False)
    model = make_model()
    history = fit(model, 8, stopping)
    loss, best = history["val_loss"][-1], min(history["val_loss"][1:])
    assert rules[0].curves()["generalization_loss"] == pytest.approx(100 * (loss / best - 1), abs=1e-9)
    a, b = history["loss"][-2:]
    assert rules[1].curves()["progress"] == pytest.approx(1000 * ((a + b) / 2 / min(a, b) - 1))
    assert stopping.reason is None
    assert len(stopping.checks) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("check_freq", "on_disk"), [("epoch", True), (2, False)])
def test_the_best_state_is_that_of_training_that_stopped_there(check_freq, on_disk, tmp_path):
    rules = [Patience(4), GL(30.0)]
    directory = tmp_path / "state" if on_disk else None
    stopping = EarlyStopping(rules, check_freq=check_freq, validation_data=make_data(1), directory=directory)
    model, same = make_model(), make_model()
    fit(model, 40, stopping, validation_data=None)
    assert stopping.reason
    assert 0 < stopping.best.step < stopping.stopped.step
    fit(same, 40, StopAfter(stopping.best.step))
    assert_same(state(model), state(same))
    assert int(model.optimizer.iterations) == stopping.best.step
    assert model.evaluate(*make_data(1), verbose=0)[0] == pytest.approx(stopping.best.values["val_loss"], rel=1e-6)
    # And so it goes on.
    assert fit(model, 2) == fit(same, 2)
    assert_same(state(model), state(same))
    if on_disk:
        assert [path.name for path in directory.iterdir()] == [f"best-{stopping.best.step}.npz"]
        stopping.restore(same)
        assert int(same.optimizer.iterations) == stopping.best.step
    # A new model, whose optimizer has not made its variables yet.
    new = make_model()
    stopping.restore(new)
    stopping.restore(model)
    assert_same(state(new), state(model))


@pytest.mark.parametrize(
    "compiled",
    [
        {},
        {"run_eagerly": True},
        pytest.param({"steps_per_execution": 3}, marks=not_torch),
        pytest.param({"jit_compile": True}, marks=not_torch),
    ],
    ids=["plain", "eagerly", "execution", "jit"],
)
def test_checks_within_an_epoch_leave_no_trace(compiled):
    model, same = make_model(**compiled), make_model(**compiled)
    stopping = EarlyStopping(GL(1e6), check_freq=2, validation_data=make_data(2), restore_best=False)
    assert fit(model, 3, stopping) == fit(same, 3)
    assert_same(state(model), state(same))
    # 3 epochs of 5 steps: after every other step, or in executions of 3 and 2 whenever a multiple of 2 is reached.
    expected = [3, 5, 8, 10, 13, 15] if "steps_per_execution" in compiled else [2, 4, 6, 8, 10, 12, 14]
    assert [check.step for check in stopping.checks] == expected
    assert [check.epoch for check in stopping.checks] == [(step - 1) // 5 for step in expected]
    np.testing.assert_allclose([check.passes for check in stopping.checks], np.array(expected) / 5)


def test_values_of_a_check_within_an_epoch():
    """Of training, the mean of the batches since the last check; of validation, what `evaluate` finds then."""
    losses, found = [], []

    class Watch(keras.callbacks.Callback):
        """Notes the loss of each batch, of 8 in a metric that is not reset, and evaluates a copy."""

        def on_train_batch_begin(self, batch, logs=None):
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            x, y = make_data()
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            losses.append(copy_of(self.model).evaluate(x[rows], y[rows], verbose=0)[0])

        def on_train_batch_end(self, batch, logs=None):
            if len(losses) % 3 == 0:
                if hasattr(self.model, "jax_state_sync"):
                    self.model.jax_state_sync()
                found.append(copy_of(self.model).evaluate(*make_data(1), verbose=0)[0])

    def copy_of(model):
        copy.set_weights(model.get_weights())
        return copy

    # Without noise, inference has the loss of training.
    copy, model = make_model(noise=False), make_model(noise=False)
    stopping = EarlyStopping(PQ(1e9), check_freq=3, validation_data=make_data(1))
    fit(model, 3, stopping, Watch(), validation_data=None)
    assert len(stopping.checks) == 5
    np.testing.assert_allclose([check.values["val_loss"] for check in stopping.checks], found, rtol=1e-5)
    means = np.array(losses).reshape(5, 3).mean(axis=1)
    np.testing.assert_allclose([check.values["loss"] for check in stopping.checks], means, rtol=1e-5)


def test_validation_data_of_its_own_after_an_epoch():
    model, same = make_model(), make_model()
    peer = keras.callbacks.EarlyStopping("val_loss", patience=2)
    history = fit(model, 40, peer)
    stopping = EarlyStopping(Patience(2), validation_data=make_data(1), restore_best=False)
    found = fit(same, 40, stopping, validation_data=None)
    assert len(found["loss"]) == len(history["loss"]) < 40
    for name in ("loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(found[name], history[name], rtol=1e-6)


def test_validation_freq():
    for freq, expected in ((2, [1, 3, 5]), ([1, 4], [0, 3])):
        stopping = EarlyStopping(Patience(100), validation_freq=freq)
        fit(make_model(), 6, stopping, validation_freq=freq)
        assert [check.epoch for check in stopping.checks] == expected


@pytest.mark.parametrize("rules", [Patience(100), [Patience(100), Patience(100, "loss")]])
def test_epochs_that_fit_does_not_validate_are_no_checks(rules):
    stopping = EarlyStopping(rules)
    fit(make_model(), 6, stopping, validation_freq=[1, 4])
    assert [check.epoch for check in stopping.checks] == [0, 3]
    stopping = EarlyStopping(Patience(100, "loss"))
    fit(make_model(), 3, stopping, validation_freq=2)
    assert [check.epoch for check in stopping.checks] == [0, 1, 2]


def test_a_first_epoch_that_fit_does_not_validate():
    """Whether it will validate others, a callback cannot know."""
    remedy = "Pass validation_data to fit, or to this callback. If fit has a validation_freq, pass that too."
    with pytest.raises(ValueError, match=re.escape(f"got monitor='val_loss'. {remedy}")):
        fit(make_model(), 6, EarlyStopping(), validation_freq=2)


@pytest.mark.slow
def test_any_and_all():
    """With any, as the first of them; with all, at the first check where each would say so."""
    accuracy = {"monitor": "val_accuracy", "mode": "max"}

    def until(rules, combine):
        stopping = EarlyStopping(rules, combine, restore_best=False)
        history = fit(make_model(), 40, stopping)
        return len(history["loss"]), stopping

    alone = [until(Patience(2), "any")[0], until(Patience(5, **accuracy), "any")[0]]
    assert alone[0] != alone[1]
    epochs, stopping = until([Patience(2), Patience(5, **accuracy)], "any")
    assert epochs == min(alone)
    assert stopping.reason.count("Patience_") == 1
    epochs, stopping = until([Patience(5, **accuracy), Patience(2)], "all")
    history = [check.values for check in stopping.checks]
    assert epochs >= max(alone)
    assert stopping.reason.startswith(f"Patience_5 at epoch {epochs}, step {epochs * BATCHES}: val_accuracy is ")
    assert "; Patience_2 at epoch" in stopping.reason
    assert len(history) == epochs
    assert set(history[0]) == {"val_accuracy", "val_loss"}


def test_metrics_of_training_alone_need_no_validation():
    stopping = EarlyStopping(LowProgress(50.0, strip=2, monitor="loss"), check_freq=3)
    fit(make_model(), 40, stopping, validation_data=None)
    assert stopping.reason.startswith("LowProgress_50 at epoch")


def test_a_metric_that_is_not_finite():
    """Weights that become NaN: the best state is from before, and a warning says so, once."""

    class Break(keras.callbacks.Callback):
        """Breaks the model."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.set_weights([w * np.nan for w in self.model.get_weights()])

    model = make_model(noise=False)
    model.compile("adam", "mse")  # The cross-entropy of torch refuses NaN.
    stopping = EarlyStopping(Patience(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        history = fit(model, 9, stopping, Break())
    said = [str(warning.message) for warning in caught if "EarlyStopping" in str(warning.message)]
    assert said == ["EarlyStopping: val_loss is nan at epoch 3, step 15; it counts as worse than any number."]
    assert len(history["loss"]) == 4
    assert stopping.best.epoch < 2
    assert stopping.reason == (
        f"Patience_2 at epoch 4, step 20: val_loss is not finite, its best {stopping.best.values['val_loss']:.6g} "
        f"({stopping.best.place}): 2 checks without an improvement."
    )
    assert all(np.isfinite(w).all() for w in state(model))


@pytest.mark.tensorflow
@pytest.mark.slow
def test_replicas(strategy):
    """Checks leave no trace, and the state comes back as it was, of variables in each replica."""

    def train(*callbacks):
        with strategy.scope():
            model = make_model()
        return model, fit(model, 2, *callbacks, validation_data=None)

    stopping = EarlyStopping(GL(1e6), check_freq=3, validation_data=make_data(1))
    model, history = train(stopping)
    assert [check.step for check in stopping.checks] == [3, 6, 9]
    # Running means are summed over replicas: what was put back is the sum, in equal parts, and rounded otherwise.
    np.testing.assert_allclose(train()[1]["loss"], history["loss"], rtol=1e-6)
    same, _ = train(StopAfter(stopping.best.step))
    assert_same(state(model), state(same))
    for variable in (*model.trainable_variables, *model.optimizer.variables):
        first, *others = (value.numpy() for value in strategy.experimental_local_results(variable.value))
        assert len(others) == 1
        np.testing.assert_array_equal(first, others[0])


@pytest.mark.tensorflow
def test_half_precision_with_a_scaled_loss(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    stopping = EarlyStopping(Patience(2), directory=tmp_path)
    model, same = make_model(), make_model()
    fit(model, 30, stopping)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    fit(same, 30, StopAfter(stopping.best.step))
    assert_same(state(model), state(same))


def test_weights_of_bfloat16_on_disk(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    stopping = EarlyStopping(Patience(2), directory=tmp_path)
    model, same = make_model(noise=False), make_model(noise=False)
    fit(model, 30, stopping)
    fit(same, 30, StopAfter(stopping.best.step))
    assert keras.backend.standardize_dtype(model.weights[0].dtype) == "bfloat16"
    for a, b in zip(state(model), state(same), strict=True):
        np.testing.assert_array_equal(a.astype("float32"), b.astype("float32"))


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:.*ran out of data:UserWarning")
@pytest.mark.parametrize("known", [True, False])
def test_datasets(known):
    """Also one of unknown length, that ends within an execution, and one for validation that has no end."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(make_data()).batch(BATCH)
    data = data if known else data.filter(lambda *_: True)
    held = tf.data.Dataset.from_tensor_slices(make_data(1)).batch(16).repeat()
    stopping = EarlyStopping(Patience(100), check_freq=2, validation_data=held, validation_steps=3)
    model = make_model(steps_per_execution=2)
    model.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=[stopping])
    assert [check.passes is None for check in stopping.checks] == [not known] * len(stopping.checks)
    steps = [check.step for check in stopping.checks]
    after = EarlyStopping(Patience(100))
    fit(make_model(steps_per_execution=2), 3, after)
    assert [check.step for check in after.checks] == [5, 10, 15]
    assert steps[:2] == [2, 4]


def test_records_for_tensorboard(tmp_path):
    pytest.importorskip("tensorflow")
    rules = [GL(2.0), PQ(1e9, strip=2), PQ(1e9, strip=3), UP(9, monitor="val_accuracy", mode="max"), Patience(99)]
    stopping = EarlyStopping(rules, log_dir=tmp_path)
    fit(make_model(), 30, stopping)
    tags = event_files.read(tmp_path / "early_stopping")
    kinds = event_files.kinds(tmp_path / "early_stopping")
    assert {tag for tag, kind in kinds.items() if kind == "text"} == {"early_stopping"}
    assert {kinds[tag] for tag in tags} == {"scalars", "text"}
    steps = [check.step for check in stopping.checks]
    losses = np.array([check.values["val_loss"] for check in stopping.checks])
    assert [step for step, _ in tags["GL_2/val_loss/generalization_loss"]] == steps
    expected = 100 * (losses / np.minimum.accumulate(losses) - 1)
    found = [value for _, value in tags["GL_2/val_loss/generalization_loss"]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    training = np.array([check.values["loss"] for check in stopping.checks])
    for k, tag in ((2, "PQ_1e+09/val_loss/progress"), (3, "PQ_1e+09/val_loss/progress_2")):
        progress = [1000 * (np.mean(s) / min(s) - 1) for s in np.lib.stride_tricks.sliding_window_view(training, k)]
        np.testing.assert_allclose([value for _, value in tags[tag]], progress, rtol=1e-4, atol=1e-4)
    accuracy = [check.values["val_accuracy"] for check in stopping.checks]
    np.testing.assert_allclose([value for _, value in tags["UP_9/val_accuracy/value"]], accuracy, rtol=1e-6)
    assert tags["Patience_99/val_loss/wait"][0] == (steps[0], 0)
    (step, text), *others = tags["early_stopping"]
    assert not others
    assert step == stopping.stopped.step
    assert text.decode().startswith("GL_2 at epoch")
    assert "The model has its best state again, of epoch" in text.decode()


def test_it_tells(capsys):
    stopping = EarlyStopping(Patience(2), verbose=1)
    fit(make_model(), 40, stopping)
    assert capsys.readouterr().out.startswith(f"EarlyStopping: {stopping.reason} The model has its best state")
    fit(make_model(), 1, EarlyStopping("GL", verbose=1, restore_best=False))
    assert capsys.readouterr().out == "EarlyStopping: Not stopped by a rule.\n"


def test_names_of_rules():
    stopping = EarlyStopping(["patience", "GL", "PQ", "UP", "LowProgress"])
    assert [type(rule) for rule in stopping.rules] == [Patience, GL, PQ, UP, LowProgress]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rules": "GL2"}, ValueError, "expected rules to be one of 'patience', 'GL', 'PQ', 'UP', 'LowProgress'; got"),
        ({"rules": GL}, TypeError, "expected rules that are StoppingRule; got rules=<class .*GL.*Pass an instance"),
        ({"rules": []}, ValueError, r"expected at least one rule; got rules=\[\]"),
        ({"rules": [UP()] * 2}, ValueError, "expected no rule twice"),
        ({"combine": "most"}, ValueError, "expected combine to be one of 'any', 'all'; got combine='most'"),
        ({"check_freq": 0}, ValueError, 'expected check_freq to be "epoch" or >= 1; got check_freq=0'),
        ({"check_freq": "batch"}, TypeError, "expected an integer for check_freq; got check_freq='batch'"),
        ({"check_freq": 5}, ValueError, "expected validation_data, to check within an epoch; got validation_data=None"),
        ({"start_from": -1}, ValueError, "expected start_from >= 0; got start_from=-1"),
        ({"validation_freq": 0}, ValueError, "expected validation_freq >= 1; got validation_freq=0"),
        ({"validation_data": (i for i in "a")}, TypeError, "expected validation_data that can be read again and again"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"EarlyStopping: {message}"):
        EarlyStopping(**arguments)


@pytest.mark.parametrize("rule", [GL(), PQ(), UP()], ids=lambda rule: rule.label)
def test_no_validation_data(rule):
    message = (
        "EarlyStopping: expected monitor to be one of 'accuracy', 'loss'; got monitor='val_loss'. "
        "Pass validation_data to fit, or to this callback."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(make_model(), 1, EarlyStopping(rule), validation_data=None)


def test_no_such_metric():
    message = "expected monitor to be one of 'accuracy', 'loss', 'val_accuracy', 'val_loss'; got monitor='val_auc'."
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(make_model(), 1, EarlyStopping(Patience(monitor="val_auc", mode="max")))
    with pytest.raises(ValueError, match="got monitor='error'"):
        fit(make_model(), 1, EarlyStopping(Patience(monitor="error"), check_freq=1, validation_data=make_data(1)))


def test_nothing_to_restore():
    stopping = EarlyStopping()
    with pytest.raises(ValueError, match="EarlyStopping: expected a best state; got best=None"):
        stopping.restore()
    stopping = EarlyStopping()
    fit(make_model(), 2, stopping)
    other = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    other.compile("sgd", "mse")
    with pytest.raises(ValueError, match="EarlyStopping: expected variables of the shapes"):
        stopping.restore(other)
