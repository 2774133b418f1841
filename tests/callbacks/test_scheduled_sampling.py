"""ScheduledSampling: the schedules of the paper, and that decoders get them."""

import math
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.callbacks import TensorBoard
from keras_kicks.callbacks.scheduled_sampling import ScheduledSampling
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor

pytestmark = pytest.mark.tensorflow

BATCH, STEPS, VOCABULARY = 2, 3, 5


def make_model(scheduled_sampling="argmax", **compiled):
    labels = keras.Input((STEPS,), dtype="int32")
    decoder = TeacherForcingDecoder(keras.layers.Dense(4), VOCABULARY, scheduled_sampling=scheduled_sampling)
    model = keras.Model(labels, decoder(labels=labels))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(**{"optimizer": "sgd", "loss": loss, **compiled})
    return model, decoder


def labels(batches):
    return np.ones((batches * BATCH, STEPS), "int32")


def value(decoder):
    return float(ops.convert_to_numpy(decoder.teacher_forcing_ratio))


class Seen(keras.callbacks.Callback):
    """Keeps the probability in force during each batch."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.values = decoder, []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(value(self.decoder))


def train(model, decoder, batches, callback, **arguments):
    """Fit; return the probabilities of the batches and the history."""
    seen = Seen(decoder)
    y = labels(batches)
    history = model.fit(y, y, batch_size=BATCH, verbose=0, callbacks=[callback, seen], **arguments)
    return seen.values, history.history


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        (("linear", 1.0, 0.1, 0.25), lambda i: max(0.25, 1.0 - 0.1 * i)),
        (("linear", 0.5, 0.01), lambda i: max(0.0, 0.5 - 0.01 * i)),
        (("exponential", 0.97), lambda i: math.exp(i * math.log(0.97))),
        (("inverse_sigmoid", 10.0), lambda i: 10.0 / (10.0 + math.exp(i / 10.0))),
        (("inverse_sigmoid", 1), lambda i: 1.0 / (1.0 + math.exp(i))),
    ],
)
def test_schedules_are_those_of_the_paper(arguments, formula):
    schedule = ScheduledSampling(*arguments)
    values = [schedule.probability(i) for i in range(200)]
    np.testing.assert_allclose(values, [formula(i) for i in range(200)], rtol=1e-12, atol=1e-300)
    assert all(0 <= p <= 1 for p in values)
    assert values == sorted(values, reverse=True)


def test_an_inverse_sigmoid_does_not_overflow():
    assert ScheduledSampling("inverse_sigmoid", 1.0).probability(10**7) == 0.0


def test_batches_count_through_all_fits():
    """The i-th batch has the probability of i updates, in this and in the next `fit`."""
    model, decoder = make_model()
    callback = ScheduledSampling("exponential", 0.5)
    values, history = train(model, decoder, 3, callback, epochs=2)
    assert values == [0.5**i for i in range(6)]
    assert history["teacher_forcing_ratio"] == [0.5**2, 0.5**5]
    values, _ = train(model, decoder, 2, ScheduledSampling("exponential", 0.5))
    assert values == [0.5**6, 0.5**7]


def test_epochs_are_those_of_fit():
    model, decoder = make_model()
    callback = ScheduledSampling(lambda i: 1.0 - i / 4, update_freq="epoch")
    values, history = train(model, decoder, 2, callback, epochs=2)
    assert values == [1.0, 1.0, 0.75, 0.75]
    assert history["teacher_forcing_ratio"] == [1.0, 0.75]
    values, _ = train(model, decoder, 1, callback, initial_epoch=3, epochs=4)
    assert values == [0.25]


def test_several_batches_in_one_execution_have_the_probability_of_the_first():
    model, decoder = make_model(steps_per_execution=2)
    values, _ = train(model, decoder, 6, ScheduledSampling("exponential", 0.5))
    assert values == [0.5**0, 0.5**2, 0.5**4]
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 6


def test_updates_are_counted_where_gradients_are_accumulated():
    model, decoder = make_model(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), run_eagerly=True)
    values, _ = train(model, decoder, 4, ScheduledSampling("exponential", 0.5))
    assert values == [0.5**0, 0.5**0, 0.5**1, 0.5**1]


def test_training_that_was_interrupted_goes_on_in_the_schedule(tmp_path):
    """From the file of BackupAndRestore, in a new model, wherever it is among the callbacks."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    y = labels(2)
    for first in (True, False):
        folder = str(tmp_path / str(first))
        model, _ = make_model()
        callbacks = [ScheduledSampling("exponential", 0.5), keras.callbacks.BackupAndRestore(folder), Stop()]
        with pytest.raises(KeyboardInterrupt):
            model.fit(y, y, batch_size=BATCH, epochs=4, verbose=0, callbacks=callbacks)
        model, decoder = make_model()
        seen, backup = Seen(decoder), keras.callbacks.BackupAndRestore(folder)
        callbacks = [ScheduledSampling("exponential", 0.5), seen]
        callbacks = [backup, *callbacks] if first else [*callbacks, backup]
        model.fit(y, y, batch_size=BATCH, epochs=4, verbose=0, callbacks=callbacks)
        assert seen.values == [0.5**i for i in range(4, 8)]


def test_a_saved_model_keeps_the_probability_and_goes_on(tmp_path):
    model, decoder = make_model()
    train(model, decoder, 3, ScheduledSampling("exponential", 0.5))
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    decoder = model.layers[-1]
    assert value(decoder) == 0.5**2
    values, _ = train(model, decoder, 2, ScheduledSampling("exponential", 0.5))
    assert values == [0.5**3, 0.5**4]


def test_all_decoders_of_a_model_get_it():
    """Nested ones, of both kinds; one without scheduled sampling is left alone."""
    inner, first = make_model()
    y = keras.Input((STEPS,), dtype="int32")
    x = inner(y)
    second = TeacherForcingRegressor(keras.layers.Dense(4), VOCABULARY, scheduled_sampling=True)
    last = TeacherForcingDecoder(keras.layers.Dense(4), VOCABULARY)
    model = keras.Model(y, last(second(x, x), y))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(labels(1), labels(1), verbose=0, callbacks=[ScheduledSampling(lambda i: 0.25)])
    assert value(first) == value(second) == 0.25
    assert last.teacher_forcing_ratio is None


def test_it_is_in_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    model, _ = make_model()
    board = TensorBoard(tmp_path, update_freq=1, norms_freq=0, write_graph=False)
    y = labels(2)
    model.fit(y, y, batch_size=BATCH, verbose=0, callbacks=[ScheduledSampling("exponential", 0.5), board])
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0})
    events.Reload()

    def written(tag):
        return [float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]

    assert written("batch_teacher_forcing_ratio") == [1.0, 0.5]
    assert written("epoch_teacher_forcing_ratio") == [0.5]


def test_replicas_have_it(strategy):
    with strategy.scope():
        model, decoder = make_model()
    y = labels(2)
    model.fit(y, y, batch_size=2 * BATCH, epochs=2, verbose=0, callbacks=[ScheduledSampling("exponential", 0.5)])
    local = strategy.experimental_local_results(decoder.teacher_forcing_ratio.value)
    assert [float(x) for x in local] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"schedule": "cosine"},
            ValueError,
            "expected schedule to be one of 'linear', 'exponential', 'inverse_sigmoid'; got schedule='cosine'.",
        ),
        ({"schedule": "linear", "k": 1.0}, ValueError, "expected c and k for this schedule; got schedule='linear'"),
        ({"schedule": "exponential"}, ValueError, "expected k for this schedule; got schedule='exponential'."),
        ({"schedule": "exponential", "k": 0.5, "c": 0.1}, ValueError, "expected k for this schedule; got"),
        ({"schedule": "inverse_sigmoid", "k": 5, "epsilon": 0.1}, ValueError, "expected k for this schedule; got"),
        ({"schedule": abs, "k": 5}, ValueError, "expected neither k, c nor epsilon for this schedule; got"),
        ({"schedule": "linear", "k": "1", "c": 0.1}, TypeError, "expected a number for k; got k='1'."),
        ({"schedule": "linear", "k": 1.1, "c": 0.1}, ValueError, "expected epsilon <= k <= 1; got k=1.1, epsilon=0."),
        ({"schedule": "linear", "k": 0.5, "c": 0.1, "epsilon": 0.6}, ValueError, "expected epsilon <= k <= 1; got"),
        ({"schedule": "linear", "k": 1, "c": 0.0}, ValueError, "expected c > 0; got c=0.0."),
        (
            {"schedule": "linear", "k": 1, "c": 0.1, "epsilon": 1.0},
            ValueError,
            "expected 0 <= epsilon < 1; got epsilon",
        ),
        ({"schedule": "exponential", "k": 1.0}, ValueError, "expected 0 < k < 1; got k=1.0."),
        ({"schedule": "inverse_sigmoid", "k": 0.9}, ValueError, "expected k >= 1; got k=0.9."),
        (
            {"schedule": abs, "update_freq": 10},
            ValueError,
            "expected update_freq to be one of 'batch', 'epoch'; got update_freq=10.",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"ScheduledSampling: {message}")):
        ScheduledSampling(**arguments)


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (lambda i: 1.5 - i, ValueError, "expected a schedule with values in [0, 1]; got step=0, probability=1.5."),
        (lambda i: None, TypeError, "expected a number for probability; got probability=None. Return one from the"),
    ],
)
def test_wrong_values_of_a_function_are_refused(schedule, error, message):
    model, decoder = make_model()
    with pytest.raises(error, match=re.escape(f"ScheduledSampling: {message}")):
        train(model, decoder, 1, ScheduledSampling(schedule))


def test_a_model_without_such_a_decoder_is_refused():
    model, decoder = make_model(scheduled_sampling=None)
    message = "ScheduledSampling: expected a model with a decoder under scheduled sampling; got model='functional'."
    with pytest.raises(ValueError, match=re.escape(message)):
        train(model, decoder, 1, ScheduledSampling("exponential", 0.5))
