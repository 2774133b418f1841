"""The schedules are those of the paper, and what the decoders see in training follows them."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.callbacks.scheduled_sampling import ScheduledSampling
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LABELS = np.random.default_rng(0).integers(0, 4, size=(24, 3)).astype("int32")
RATIO = "teacher_forcing_ratio"


class Seen(keras.callbacks.Callback):
    """Keeps the ratio of decoders during each batch."""

    def __init__(self, *decoders):
        super().__init__()
        self.decoders, self.values = decoders, []

    def on_train_batch_begin(self, batch, logs=None):
        self.values.append([float(ops.convert_to_numpy(d.teacher_forcing_ratio)) for d in self.decoders])


def model_of(*decoders, **options):
    """Return a compiled model whose output is the mean of what decoders make of the same labels."""
    labels = keras.Input((None,), dtype="int32")
    outputs = [decoder(labels=labels) for decoder in decoders]
    model = keras.Model(labels, keras.layers.Average()(outputs) if len(outputs) > 1 else outputs[0])
    model.compile(keras.optimizers.SGD(0.1), LOSS, **{"jit_compile": False, **options})
    return model


def decoder(**options):
    options = {"scheduled_sampling": "argmax", "seed": 1, **options}
    return TeacherForcingDecoder(keras.layers.SimpleRNNCell(3), 4, **options)


def fit(model, *callbacks, **options):
    options = {"batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False, **options}
    return model.fit(LABELS, LABELS, callbacks=list(callbacks), **options)


def test_probabilities_are_those_of_the_paper():
    linear = ScheduledSampling("linear", k=0.9, c=0.01, epsilon=0.2)
    assert [linear.probability(i) for i in (0, 10, 70, 71, 10**9)] == pytest.approx([0.9, 0.8, 0.2, 0.2, 0.2])
    exponential = ScheduledSampling("exponential", k=0.99)
    assert exponential.probability(0) == 1
    for i in (1, 50, 300):
        assert exponential.probability(i) == pytest.approx(math.exp(i * math.log(0.99)))
    sigmoid = ScheduledSampling("inverse_sigmoid", k=20.0)
    for i in (0, 1, 60, 200):
        assert sigmoid.probability(i) == pytest.approx(20 / (20 + math.exp(i / 20)))
    assert sigmoid.probability(10**9) == 0
    # Half after k ln k steps.
    assert sigmoid.probability(20 * math.log(20)) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["linear", "inverse_sigmoid"])
def test_probabilities_never_rise(kind):
    schedule = ScheduledSampling(kind, k=1.0, **({"c": 0.03} if kind == "linear" else {}))
    values = [schedule.probability(i) for i in range(100)]
    assert all(0 <= after <= before <= 1 for before, after in itertools.pairwise(values))
    assert values[-1] < 1e-6


def test_every_batch_has_the_probability_of_the_updates_so_far():
    """Six updates in two epochs of three batches; a second fit goes on."""
    first, second = decoder(), decoder(teacher_forcing_ratio=0.5)
    model, seen = model_of(first, second), Seen(first, second)
    schedule = ScheduledSampling("exponential", k=0.9)
    history = fit(model, schedule, seen).history
    np.testing.assert_allclose(seen.values, [[0.9**i] * 2 for i in range(6)], rtol=1e-6)
    np.testing.assert_allclose(history[RATIO], [0.9**2, 0.9**5], rtol=1e-6)
    fit(model, ScheduledSampling("exponential", k=0.9), seen, epochs=1)
    np.testing.assert_allclose(seen.values[6:], [[0.9**i] * 2 for i in range(6, 9)], rtol=1e-6)


def test_training_that_is_resumed_from_a_file_goes_on(tmp_path):
    model = model_of(decoder())
    fit(model, ScheduledSampling("exponential", k=0.9))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    seen = Seen(next(layer for layer in loaded.layers if isinstance(layer, TeacherForcingDecoder)))
    assert float(ops.convert_to_numpy(seen.decoders[0].teacher_forcing_ratio)) == pytest.approx(0.9**5)
    fit(loaded, ScheduledSampling("exponential", k=0.9), seen, epochs=1)
    np.testing.assert_allclose(np.ravel(seen.values), [0.9**i for i in (6, 7, 8)], rtol=1e-6)


def test_several_steps_in_one_execution_have_that_of_the_first():
    part = decoder()
    model, seen = model_of(part, steps_per_execution=2), Seen(part)
    fit(model, ScheduledSampling("linear", k=1.0, c=0.1), seen, batch_size=4, epochs=1)
    np.testing.assert_allclose(np.ravel(seen.values), [1.0, 0.8, 0.6], rtol=1e-6)


def test_epochs_are_counted_as_fit_numbers_them():
    part = decoder()
    model, seen = model_of(part), Seen(part)
    history = fit(
        model, ScheduledSampling("linear", k=1.0, c=0.2, update_freq="epoch"), seen, initial_epoch=1, epochs=4
    )
    np.testing.assert_allclose(np.ravel(seen.values), np.repeat([0.8, 0.6, 0.4], 3), rtol=1e-6)
    np.testing.assert_allclose(history.history[RATIO], [0.8, 0.6, 0.4], rtol=1e-6)


def test_a_function_says_the_probability():
    part = decoder()
    model, seen = model_of(part), Seen(part)
    fit(model, ScheduledSampling(lambda i: 1 / (1 + i)), seen, epochs=1)
    np.testing.assert_allclose(np.ravel(seen.values), [1, 1 / 2, 1 / 3], rtol=1e-6)
    with pytest.raises(ValueError, match=r"a schedule with values in \[0, 1\]; got step=3, probability=1.5"):
        fit(model, ScheduledSampling(lambda i: i / 2))


def test_decoders_within_models_and_layers_are_found():
    """One without scheduled sampling is left alone."""
    inner, plain = decoder(), TeacherForcingDecoder(keras.layers.SimpleRNNCell(3), 4)
    regressor = TeacherForcingRegressor(keras.layers.SimpleRNNCell(3), 4, scheduled_sampling=True)
    labels = keras.Input((None,), dtype="int32")
    nested = keras.Model(labels, inner(labels=labels), name="nested")
    outputs = [nested(labels), plain(labels=labels)]
    outputs.append(regressor(labels=outputs[0]))
    model = keras.Model(labels, keras.layers.Average()(outputs))
    model.compile("sgd", LOSS, jit_compile=False)
    seen = Seen(inner, regressor)
    fit(model, ScheduledSampling(lambda i: 0.25), seen, epochs=1)
    np.testing.assert_array_equal(seen.values, np.full((3, 2), 0.25))
    assert plain.teacher_forcing_ratio is None


def test_a_new_probability_traces_nothing_anew(monkeypatch):
    """Compiled, the decoder is called while it is traced and never again."""
    if keras.backend.backend() == "torch":
        pytest.skip("Torch traces nothing.")
    part, calls = decoder(), []
    model = model_of(part)
    traced = part.call
    monkeypatch.setattr(part, "call", lambda *args, **kwargs: calls.append(1) or traced(*args, **kwargs))
    fit(model, ScheduledSampling("exponential", k=0.9), epochs=1)
    before = len(calls)
    assert before > 0
    fit(model, ScheduledSampling("linear", k=1.0, c=0.1), epochs=3)
    assert len(calls) == before


def test_what_is_trained_follows_the_probability():
    """At 1 it is teacher forcing, exactly; at 0 it is not."""

    def losses(ratio):
        keras.utils.set_random_seed(3)
        part = decoder(scheduled_sampling=None) if ratio is None else decoder()
        for i, weight in enumerate((model := model_of(part)).trainable_variables):
            weight.assign(np.random.default_rng(i).normal(size=weight.shape))
        return fit(model, *([] if ratio is None else [ScheduledSampling(lambda i: ratio)])).history["loss"]

    assert losses(1.0) == losses(None)
    assert abs(losses(0.0)[0] - losses(None)[0]) > 1e-3


@pytest.mark.tensorflow
def test_replicas_have_the_same_probability():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        part = decoder()
        model = model_of(part)
    fit(model, ScheduledSampling("exponential", k=0.9))
    values = [float(v) for v in strategy.experimental_local_results(part.teacher_forcing_ratio.value)]
    np.testing.assert_allclose(values, [0.9**5] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"schedule": "cosine", "k": 1.0}, ValueError, "schedule to be one of 'linear'"),
        ({"schedule": "linear", "k": 1.0}, ValueError, "c and k for this schedule"),
        ({"schedule": "linear", "k": 1.1, "c": 0.1}, ValueError, "epsilon <= k <= 1"),
        ({"schedule": "linear", "k": 0.1, "c": 0.1, "epsilon": 0.2}, ValueError, "epsilon <= k <= 1"),
        ({"schedule": "linear", "k": 1.0, "c": 0.0}, ValueError, "c > 0"),
        ({"schedule": "linear", "k": 1.0, "c": 0.1, "epsilon": 1.0}, ValueError, "0 <= epsilon < 1"),
        ({"schedule": "exponential"}, ValueError, "k for this schedule"),
        ({"schedule": "exponential", "k": 1.0}, ValueError, "0 < k < 1; got k=1.0"),
        ({"schedule": "exponential", "k": 0.0}, ValueError, "0 < k < 1"),
        ({"schedule": "exponential", "k": 0.9, "c": 0.1}, ValueError, "k for this schedule"),
        ({"schedule": "inverse_sigmoid", "k": 0.9}, ValueError, "k >= 1"),
        ({"schedule": "inverse_sigmoid", "k": "fast"}, TypeError, "a number for k"),
        ({"schedule": lambda i: 1.0, "k": 0.9}, ValueError, "neither k, c nor epsilon"),
        ({"schedule": "exponential", "k": 0.9, "update_freq": "step"}, ValueError, "update_freq to be one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"ScheduledSampling: expected .*{message}"):
        ScheduledSampling(**arguments)


def test_a_model_without_scheduled_sampling_is_refused():
    model = model_of(decoder(scheduled_sampling=None))
    with pytest.raises(ValueError, match="a model with a decoder under scheduled sampling"):
        fit(model, ScheduledSampling("exponential", k=0.9))
