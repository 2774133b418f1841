"""EarlyStopping after training: taken up after an interruption, and trained anew on all data."""

import json
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.callbacks import GL, PQ, EarlyStopping, Patience

BATCH, BATCHES = 8, 4


def make_data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH * BATCHES, 6)).astype("float32")
    return x, (x[:, :1] + rng.normal(size=(len(x), 1)) > 0).astype("float32")


def make_model(rate=0.03, **compiled):
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", **compiled)
    return model


def state(model):
    return [ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]


class Interrupted(Exception):
    """What ends a process."""


class Interrupt(keras.callbacks.Callback):
    """Interrupts training before a step of an epoch."""

    def __init__(self, epoch, step):
        super().__init__()
        self.place = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise Interrupted


def train(check_freq, *others, directory=None, model=None):
    stopping = EarlyStopping(
        [PQ(0.2, strip=2), GL(40.0), Patience(6)],
        check_freq=check_freq,
        validation_data=make_data(1),
        start_from=1,
        directory=directory,
    )
    model = model or make_model()
    x, y = make_data()
    model.fit(x, y, batch_size=BATCH, epochs=30, shuffle=False, verbose=0, callbacks=[stopping, *others])
    return stopping, model


def compare(found, expected):
    """Compare two trainings by what was found and by the state of the model."""
    (stopping, model), (other, same) = found, expected
    assert [check[:3] for check in stopping.checks] == [check[:3] for check in other.checks]
    for a, b in zip(stopping.checks, other.checks, strict=True):
        assert a.values == pytest.approx(b.values, rel=1e-6)
    assert stopping.best[:3] == other.best[:3]
    assert stopping.stopped[:3] == other.stopped[:3]
    assert stopping.reason.split(":")[0] == other.reason.split(":")[0]
    for a, b in zip(state(model), state(same), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("check_freq", "at"), [("epoch", (3, 2)), (3, (1, 3)), (3, (2, 2))])
def test_training_is_taken_up_where_it_was_interrupted(check_freq, at, tmp_path):
    expected = train(check_freq)
    assert expected[0].stopped.step > at[0] * BATCHES + at[1] > 0
    folder = tmp_path / "rules"

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(Interrupted):
        train(check_freq, backup(), Interrupt(*at), directory=folder)
    assert json.loads((folder / "state.json").read_text())["checks"]
    # What another process would begin with.
    compare(train(check_freq, backup(), directory=folder), expected)
    assert [path.name for path in folder.iterdir()] == [f"best-{expected[0].best.step}.npz"]


def test_training_that_begins_anew_forgets(tmp_path):
    """An interrupted training without BackupAndRestore: the next one begins with epoch 0, and with new rules."""
    with pytest.raises(Interrupted):
        train("epoch", Interrupt(3, 0), directory=tmp_path)
    compare(train("epoch", directory=tmp_path), train("epoch"))


def test_the_state_is_behind_the_model(tmp_path):
    with pytest.raises(Interrupted):
        train("epoch", Interrupt(2, 0), directory=tmp_path)
    model = make_model()
    stopping = EarlyStopping(Patience(99, "loss"), directory=tmp_path)
    next(tmp_path.glob("best-*")).unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        with pytest.raises(ValueError, match="EarlyStopping: expected the best state in directory; got step="):
            model.fit(*make_data(), initial_epoch=3, epochs=4, verbose=0, callbacks=[stopping])
    message = "EarlyStopping: the state of epoch 3 was not written. Pass this callback before BackupAndRestore."
    assert message in [str(warning.message) for warning in caught]


class Count(keras.callbacks.Callback):
    """Counts batches, and keeps what was seen of the data."""

    def __init__(self):
        super().__init__()
        self.steps, self.sizes = 0, []

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1


@pytest.mark.parametrize("check_freq", ["epoch", 3])
def test_refit_makes_as_many_steps(check_freq):
    stopping, _ = train(check_freq)
    best = stopping.best
    x, y = (np.concatenate(pair) for pair in zip(make_data(), make_data(1), strict=True))
    expected = make_model()
    for step in range(best.step):
        rows = slice(step * BATCH % len(x), step * BATCH % len(x) + BATCH)
        expected.train_on_batch(x[rows], y[rows])
    # Also a model that would make several steps at once, which Keras refuses with torch.
    at_once = {} if keras.backend.backend() == "torch" else {"steps_per_execution": 7}
    for build in (lambda: make_model(**at_once), make_model):
        count = Count()
        model = stopping.refit(build, x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[count])
        assert count.steps == best.step == int(model.optimizer.iterations)
        for a, b in zip(state(model), state(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    count = Count()
    stopping.refit(make_model, x, y, by="epochs", batch_size=BATCH, verbose=0, callbacks=[count])
    # Twice the data: twice the steps for a pass, and for the same part of one.
    assert count.steps == 2 * best.step
    assert best.passes == best.step / BATCHES


def test_refit_of_a_model_begins_with_new_weights():
    stopping, model = train("epoch")
    keras.utils.set_random_seed(7)
    x, y = make_data()
    again = stopping.refit(model, x, y, batch_size=BATCH, shuffle=False, verbose=0)
    assert again is not model
    assert int(again.optimizer.iterations) == stopping.best.step
    assert float(again.optimizer.learning_rate) == pytest.approx(0.03)
    # On the same data and from the same seed it is the best state again.
    for a, b in zip(state(again), state(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
def test_refit_on_a_dataset():
    import tensorflow as tf

    stopping, _ = train(3)
    data = tf.data.Dataset.from_tensor_slices(make_data()).repeat().batch(BATCH)
    model = stopping.refit(make_model, data, steps_per_epoch=5, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == stopping.best.step
    model = stopping.refit(make_model, data, by="epochs", steps_per_epoch=4, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == stopping.best.step
    message = 'EarlyStopping: expected data of a known length; got passes=.* Pass by="steps"'
    unknown = data.take(3).filter(lambda *_: True)
    stopping.rules[0].best_check = stopping.best._replace(passes=1.5)
    with pytest.raises(ValueError, match=message):
        stopping.refit(make_model, unknown, by="epochs", verbose=0, shuffle=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"by": "batches"}, ValueError, "expected by to be one of 'steps', 'epochs'; got by='batches'"),
        ({"epochs": 3}, ValueError, "expected no epochs: the best check says how long; got arguments={'epochs': 3}"),
        ({"build_fn": 3}, TypeError, "expected a model, or a function that makes one; got build_fn=3"),
        ({"build_fn": lambda: 3}, TypeError, "expected a function that returns a model; got returned='int'"),
        (
            {"build_fn": lambda: keras.Sequential([layers.Dense(1)])},
            ValueError,
            "expected a compiled model; got compiled=False. Call model.compile(...) in build_fn.",
        ),
    ],
)
def test_wrong_arguments_of_refit(arguments, error, message):
    stopping = EarlyStopping("GL")
    make_model().fit(*make_data(), verbose=0, validation_data=make_data(1), callbacks=[stopping])
    with pytest.raises(error, match=re.escape(f"EarlyStopping: {message}")):
        stopping.refit(**{"build_fn": make_model, "x": make_data()[0], "y": make_data()[1], **arguments})


def test_refit_needs_a_best_check():
    with pytest.raises(ValueError, match="EarlyStopping: expected a best check; got best=None"):
        EarlyStopping("GL").refit(make_model, *make_data())
