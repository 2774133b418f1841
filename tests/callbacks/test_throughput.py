"""The speed of an epoch: the batches and examples of the data over the time of their training."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.callbacks import TensorBoard, throughput

pytestmark = [
    pytest.mark.tensorflow,
    # Keras says so at the end of each epoch of unknown length.
    pytest.mark.filterwarnings("ignore:.*Your input ran out of data:UserWarning"),
]


class Recorded(TensorBoard):
    """Keeps the speeds that are written."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.speeds, self.written = [], {}

    def on_epoch_end(self, epoch, logs=None):
        self.speeds.append(self._throughput.read())
        super().on_epoch_end(epoch, logs)

    @property
    def summary(self):
        """Keras's way to the files, overheard."""
        summary = super().summary

        def scalar(name, value, step):
            self.written.setdefault(name, []).append(value)
            return summary.scalar(name, value, step=step)

        return types.SimpleNamespace(**{**vars(summary), "scalar": scalar})


class Clock(keras.callbacks.Callback):
    """A clock that moves when a step, a batch of the validation or the end of an epoch is said to take its time."""

    def __init__(self, monkeypatch, train=0.0, test=0.0, end=0.0):
        super().__init__()
        self.now, self.train, self.test, self.end = 0.0, train, test, end
        monkeypatch.setattr(throughput, "time", types.SimpleNamespace(perf_counter=lambda: self.now))

    def on_train_batch_end(self, batch, logs=None):
        self.now += self.train

    def on_test_batch_end(self, batch, logs=None):
        self.now += self.test

    def on_epoch_end(self, epoch, logs=None):
        self.now += self.end


def data():
    return np.ones((20, 4), "float32"), np.ones((20, 1), "float32"), np.linspace(0, 3, 20).astype("float32")


def unknown_length():
    """Batches of 8, 8 and 4 with sample weights."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(data()).filter(lambda *_: True).batch(8)


def model(**arguments):
    built = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=arguments.pop("accumulated", None))
    built.compile(optimizer, "mse", **arguments)
    return built


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("validated", [True, False])
def test_validation_and_other_callbacks_are_left_out(tmp_path, monkeypatch, known, validated):
    """Whether the number of batches is known or not, and although the other callback has its turn first."""
    x, y, weight = data()
    clock = Clock(monkeypatch, train=0.25, test=16.0, end=8.0)
    board = Recorded(tmp_path, write_steps_per_second=True)
    arguments = {"epochs": 2, "verbose": 0, "shuffle": False, "callbacks": [clock, board]}
    if validated:
        arguments["validation_data"] = (x, y)
    if known:
        model().fit(x, y, sample_weight=weight, batch_size=8, **arguments)
    else:
        model().fit(unknown_length(), **arguments)
    assert clock.now >= 2 * (3 * 0.25 + 8)
    assert board.speeds == [{"steps_per_second": 4.0, "examples_per_second": pytest.approx(20 / 0.75)}] * 2
    # What Keras writes under this name, from another clock, is not what is written.
    assert board.written["epoch_steps_per_second"] == [4.0, 4.0]


def test_what_the_device_still_has_to_do_is_counted(tmp_path, monkeypatch):
    """Reading a number waits for the device; here, half a second."""
    x, y, _ = data()
    clock = Clock(monkeypatch, train=0.25)
    read = throughput._updates

    def slow(model):
        clock.now += 0.5
        return read(model)

    monkeypatch.setattr(throughput, "_updates", slow)
    board = Recorded(tmp_path)
    model().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[clock, board])
    assert [speed["steps_per_second"] for speed in board.speeds] == [pytest.approx(3 / (0.75 + 0.5))] * 2


@pytest.mark.parametrize("case", ["plain", "two replicas", "steps_per_execution", "accumulated", "float16"])
def test_examples_are_those_of_the_data(tmp_path, strategy, case):
    """An uneven last batch, data of unknown length and sample weights do not distort the count, in any epoch."""
    if case == "two replicas":
        with strategy.scope():
            net = model()
    elif case == "float16":
        keras.config.set_dtype_policy("mixed_float16")
        net = model()
    else:
        net = model(
            **{"steps_per_execution": {"steps_per_execution": 2}, "accumulated": {"accumulated": 2}}.get(case, {})
        )
    board = Recorded(tmp_path)
    net.fit(unknown_length(), epochs=2, shuffle=False, verbose=0, callbacks=[board])
    assert len(board.speeds) == 2
    for speed in board.speeds:
        assert speed["examples_per_second"] / speed["steps_per_second"] == pytest.approx(20 / 3, rel=1e-5)


@pytest.mark.parametrize("steps", [2, 5])
def test_a_part_of_the_data_is_counted_as_such(tmp_path, steps):
    """Batches of 8, 8 and 4, and around again."""
    board = Recorded(tmp_path)
    model().fit(unknown_length().repeat(), steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[board])
    examples = {2: 16, 5: 36}[steps]
    ((speed),) = board.speeds
    assert speed["examples_per_second"] / speed["steps_per_second"] == pytest.approx(examples / steps, rel=1e-5)


def test_training_that_stops_within_an_epoch_is_measured_until_there(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    x, y, _ = data()
    board = Recorded(tmp_path)
    model().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Stop(), board])
    (speed,) = board.speeds
    assert speed["examples_per_second"] / speed["steps_per_second"] == pytest.approx(16 / 2, rel=1e-5)


class OwnStep(keras.Model):
    """Keras's recipe for a training step of one's own, whose mean of the loss counts batches."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, batch):
        import tensorflow as tf

        x, y, *_ = batch
        with tf.GradientTape() as tape:
            loss = ops.mean((self(x) - y) ** 2)
        self.own_optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
        )
        for metric in self.metrics:
            metric.update_state(loss)
        return {metric.name: metric.result() for metric in self.metrics}


class OwnMetrics(keras.Model):
    """Keras's recipe for a loss of one's own, in the docstring of `compute_loss`."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.loss_mean = keras.metrics.Mean(name="loss")

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = ops.mean((y_pred - y) ** 2)
        self.loss_mean.update_state(loss)
        return loss

    @property
    def metrics(self):
        return [self.loss_mean]


@pytest.mark.parametrize("kind", [OwnStep, OwnMetrics])
def test_examples_that_are_not_known_are_not_written(tmp_path, monkeypatch, kind):
    """Steps are, also if the compiled optimizer is not the one in use."""
    net = kind()
    net.own_optimizer = keras.optimizers.SGD(0.1)
    net.compile("sgd", *(["mse"] if kind is OwnMetrics else []))
    board = Recorded(tmp_path)
    net.fit(unknown_length(), epochs=2, shuffle=False, verbose=0, callbacks=[Clock(monkeypatch, 0.25), board])
    assert board.speeds == [{"steps_per_second": 4.0}] * 2
