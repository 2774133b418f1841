"""TimeStopping, by a clock that the test moves."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.callbacks import TimeStopping


class Clock:
    """A clock that steps, validations and the compilation of the first step move on."""

    def __init__(self, step=2.0, validation=0.0, compilation=0.0):
        self.now = 100.0
        self.step, self.validation, self.compilation = step, validation, compilation

    def __call__(self):
        return self.now

    def work(self):
        """Return a callback that lets time pass, to come before what reads the clock."""
        clock = self

        class Work(keras.callbacks.Callback):
            """Moves the clock."""

            def on_train_batch_end(self, batch, logs=None):
                clock.now += clock.step + clock.compilation
                clock.compilation = 0.0

            def on_test_end(self, logs=None):
                clock.now += clock.validation

        return Work()


def train(stopping, clock, epochs=4, steps=5, validation=True, **compiled):
    """Return the number of steps made."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse", **compiled)
    x = np.ones((steps, 1))
    model.fit(
        x,
        x,
        1,
        epochs=epochs,
        verbose=0,
        validation_data=(x, x) if validation else None,
        callbacks=[clock.work(), stopping],
    )
    return int(model.optimizer.iterations)


@pytest.mark.parametrize(
    ("arguments", "seconds", "steps", "elapsed"),
    [
        # Steps of 2 s, and 3 s of validation: epochs of 13 s.
        ({}, 100, 20, 52),
        # The third step of the first epoch ends at 6 s; then validation, of which nothing is known yet.
        ({}, 7, 3, 9),
        # The second epoch: its third step ends at 19 s, and with validation at 22 s.
        ({}, 22, 8, 22),
        ({}, 23.9, 8, 22),
        ({}, 24, 9, 24),
        ({"look_ahead": False}, 19, 8, 22),
        ({"look_ahead": False}, 19.1, 9, 24),
        ({"check": "epoch"}, 38.9, 10, 26),
        ({"check": "epoch"}, 39, 15, 39),
        ({"check": "epoch", "look_ahead": False}, 26, 10, 26),
        ({"check": "epoch", "look_ahead": False}, 26.1, 15, 39),
        ({"check": "epoch"}, 1, 5, 13),
        ({}, 1, 1, 5),
    ],
)
def test_when_it_stops(arguments, seconds, steps, elapsed):
    clock = Clock(validation=3.0)
    stopping = TimeStopping(seconds, clock=clock, **arguments)
    assert train(stopping, clock) == steps
    assert stopping.elapsed == elapsed
    if steps == 20:
        assert stopping.reason is stopping.stopped_epoch is stopping.stopped_batch is None
    else:
        assert stopping.stopped_epoch == (steps - 1) // 5
        assert stopping.stopped_batch == (None if "check" in arguments else (steps - 1) % 5 + 1)


def test_compilation_is_no_step():
    """The first step takes 30 s more: it counts, but the next is not expected to take as long."""
    clock = Clock(compilation=30.0)
    assert train(TimeStopping(40, clock=clock), clock, validation=False) == 5
    clock = Clock(compilation=30.0)
    assert train(TimeStopping(31, clock=clock), clock, validation=False) == 1


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses executions of several steps there.")
def test_executions_of_several_steps():
    """5 steps in three executions of 2 s: the clock is read after each."""
    clock = Clock()
    stopping = TimeStopping(8.5, clock=clock)
    assert train(stopping, clock, validation=False, steps_per_execution=2) == 7
    assert (stopping.stopped_epoch, stopping.stopped_batch) == (1, 2)


def test_time_of_one_fit_or_of_all():
    for total, expected in ((False, [4, 4, 4]), (True, [4, 1, 1])):
        clock = Clock()
        stopping = TimeStopping(8.5, total=total, clock=clock)
        assert [train(stopping, clock, validation=False) for _ in range(3)] == expected
        assert stopping.elapsed == (12 if total else 8)
    # What comes between is not counted.
    clock = Clock()
    stopping = TimeStopping(20, total=True, clock=clock)
    train(stopping, clock, epochs=1, validation=False)
    clock.now += 1000
    assert train(stopping, clock, validation=False) == 5


def test_an_interrupted_fit_counts_what_it_finished():
    class Break(keras.callbacks.Callback):
        """Interrupts the second epoch."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    clock = Clock()
    stopping = TimeStopping(14, total=True, clock=clock)
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((5, 1))
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, x, 1, epochs=2, verbose=0, callbacks=[clock.work(), stopping, Break()])
    assert train(stopping, clock, validation=False) == 2


def test_it_tells(capsys):
    clock = Clock(validation=3.0)
    stopping = TimeStopping(22, clock=clock, verbose=1)
    train(stopping, clock)
    assert stopping.reason == "19 s of 22 s are over after step 3 of epoch 2, and another step takes 5 s."
    assert capsys.readouterr().out == f"TimeStopping: {stopping.reason}\n"
    clock = Clock()
    stopping = TimeStopping(13, "epoch", look_ahead=False, clock=clock)
    train(stopping, clock, validation=False)
    assert stopping.reason == "20 s of 13 s are over after epoch 2."
    assert capsys.readouterr().out == ""


def test_the_clock_of_the_machine():
    stopping = TimeStopping(1e-9)
    assert train(stopping, Clock()) == 1
    assert 0 < stopping.elapsed < 600


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seconds": 0}, ValueError, "expected seconds > 0; got seconds=0"),
        ({"seconds": "1"}, TypeError, "expected a number for seconds; got seconds='1'"),
        ({"seconds": 1, "check": "step"}, ValueError, "expected check to be one of 'batch', 'epoch'; got check='step'"),
        ({"seconds": 1, "clock": 5}, TypeError, "expected a function for clock; got clock=5"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"TimeStopping: {message}")):
        TimeStopping(**arguments)
