"""What the TensorBoard callback writes, read back from its files."""

import os
import re
import time

import keras
import numpy as np
import pytest

from keras_kicks.callbacks import TensorBoard
from keras_kicks.layers import DropConnect, MaxoutDense

pytestmark = pytest.mark.tensorflow


def read(folder):
    """Return the scalars {tag: [(step, value)]}, texts {tag: text} and image tags of a folder of event files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    scalars, texts, images = {}, {}, {}
    for name in sorted(os.listdir(folder)):
        for event in EventFileLoader(os.path.join(folder, name)).Load():
            for value in event.summary.value:
                array = tensor_util.make_ndarray(value.tensor)
                plugin = value.metadata.plugin_data.plugin_name
                if plugin == "text":
                    texts[value.tag] = array.item().decode()
                elif plugin == "images":
                    images.setdefault(value.tag, []).append((event.step, array))
                elif array.dtype.kind == "f" and array.size == 1:
                    scalars.setdefault(value.tag, []).append((event.step, float(array.item())))
    return scalars, texts, images


def data(n=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)).astype("float32"), rng.normal(size=(n, 1)).astype("float32")


def model(*layers, optimizer="sgd", **arguments):
    layers = layers or (keras.layers.Dense(3, name="first"), keras.layers.Dense(1, name="second"))
    built = keras.Sequential([keras.Input((4,)), *layers], name="model")
    built.compile(optimizer, "mse", **arguments)
    return built


def fit(tmp_path, model, epochs=2, x=None, y=None, batch_size=8, callbacks=(), **arguments):
    fit_arguments = {k: arguments.pop(k) for k in list(arguments) if k in ("validation_data", "initial_epoch")}
    board = TensorBoard(tmp_path, **arguments)
    x, y = data() if x is None else (x, y)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[*callbacks, board], **fit_arguments)
    return read(tmp_path / "train")[0]


def test_learning_rate_follows_the_schedule(tmp_path):
    schedule = keras.optimizers.schedules.InverseTimeDecay(0.5, 1, 1.0)
    scalars = fit(tmp_path, model(optimizer=keras.optimizers.SGD(schedule)), update_freq=2)
    steps = dict(scalars["epoch_learning_rate"])
    assert steps == pytest.approx({0: 0.5 / (1 + 3), 1: 0.5 / (1 + 6)})
    # Three batches in each epoch; every second one is written.
    assert dict(scalars["batch_learning_rate"]) == pytest.approx({n: 0.5 / (1 + n) for n in (2, 4, 6)})


def test_learning_rate_is_that_of_the_optimizer_inside_of_loss_scaling(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    scalars = fit(tmp_path, model(optimizer=keras.optimizers.SGD(0.25)), epochs=1)
    assert dict(scalars["epoch_learning_rate"]) == {0: 0.25}


class Sleep(keras.callbacks.Callback):
    """Makes a step, or the validation, take a time that is known."""

    def __init__(self, train=0.0, test=0.0):
        super().__init__()
        self.train, self.test = train, test

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.train)

    def on_test_batch_end(self, batch, logs=None):
        time.sleep(self.test)


def test_throughput_leaves_validation_out(tmp_path):
    x, y = data()
    net = model()
    sleep = Sleep(train=0.05, test=0.5)
    scalars = fit(tmp_path, net, epochs=2, callbacks=[sleep], validation_data=(x, y))
    steps, examples = dict(scalars["epoch_steps_per_second"])[1], dict(scalars["epoch_examples_per_second"])[1]
    # Three steps of 50 ms at least, and far less than the 1.5 s that validation sleeps.
    assert 3 / 1.0 < steps <= 3 / 0.15
    assert examples == pytest.approx(steps * 20 / 3, rel=1e-5)


# Keras warns where an epoch of unknown length ends within steps_per_execution.
@pytest.mark.filterwarnings("ignore:.*Your input ran out of data:UserWarning")
def test_examples_are_those_of_the_data(tmp_path, strategy):
    """An uneven last batch, data of unknown length, sample weights and replicas do not distort the count."""
    import tensorflow as tf

    x, y = data()
    weight = np.linspace(0, 3, 20).astype("float32")
    unknown = tf.data.Dataset.from_tensor_slices((x, y, weight)).filter(lambda *_: True).batch(8)
    for name, scope, steps in (("one", None, 1), ("two", strategy, 1), ("several", None, 2)):
        if scope is None:
            net = model(steps_per_execution=steps)
        else:
            with scope.scope():
                net = model()
        board = TensorBoard(tmp_path / name)
        net.fit(unknown, epochs=2, shuffle=False, verbose=0, callbacks=[board])
        scalars = read(tmp_path / name / "train")[0]
        for (_, examples), (_, steps) in zip(
            scalars["epoch_examples_per_second"], scalars["epoch_steps_per_second"], strict=True
        ):
            assert examples / steps == pytest.approx(20 / 3, rel=1e-5)


class Weights(keras.callbacks.Callback):
    """Keeps the weights at the start and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_train_begin(self, logs=None):
        self.kept.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append(self.model.get_weights())


def norm(arrays):
    return np.sqrt(sum((np.asarray(a, "float64") ** 2).sum() for a in arrays))


@pytest.mark.parametrize("replicas", [1, 2])
def test_norms_are_those_of_the_weights(tmp_path, strategy, replicas):
    if replicas == 2:
        with strategy.scope():
            net = model()
    else:
        net = model()
    weights = Weights()
    scalars = fit(tmp_path, net, epochs=3, callbacks=[weights])
    for i, layer in enumerate(("model/first", "model/second")):
        layer = next(
            tag for tag in scalars if tag.startswith("epoch_weight_norm") and tag.endswith(layer.split("/")[1])
        )
        layer = layer.removeprefix("epoch_weight_norm/")
        for epoch in range(3):
            before, after = (kept[2 * i : 2 * i + 2] for kept in weights.kept[epoch : epoch + 2])
            update = norm([a - b for a, b in zip(after, before, strict=True)])
            assert dict(scalars[f"epoch_weight_norm/{layer}"])[epoch] == pytest.approx(norm(after), rel=1e-5)
            assert dict(scalars[f"epoch_update_norm/{layer}"])[epoch] == pytest.approx(update, rel=1e-4)
            assert dict(scalars[f"epoch_update_ratio/{layer}"])[epoch] == pytest.approx(update / norm(after), rel=1e-4)


def test_frozen_layers_have_no_update(tmp_path):
    frozen = keras.layers.Dense(3, name="first", trainable=False)
    scalars = fit(tmp_path, model(frozen, keras.layers.Dense(1, name="second")), epochs=1)
    assert [t for t in scalars if t.startswith("epoch_weight_norm") and t.endswith("first")]
    assert not [t for t in scalars if t.startswith("epoch_update_norm") and t.endswith("first")]


@pytest.mark.parametrize(("frequency", "epochs"), [(0, []), (2, [0, 2])])
def test_norms_are_written_as_often_as_asked(tmp_path, frequency, epochs):
    scalars = fit(tmp_path, model(), epochs=4, norms_freq=frequency)
    tags = [tag for tag in scalars if "norm/" in tag]
    assert bool(tags) == bool(epochs)
    assert all([step for step, _ in scalars[tag]] == epochs for tag in tags)


def test_a_model_that_its_first_batch_builds_has_norms_from_the_second_record(tmp_path):
    net = keras.Sequential([keras.layers.Dense(1, name="only")])
    net.compile("sgd", "mse")
    scalars = fit(tmp_path, net, epochs=2)
    assert [[step for step, _ in scalars[tag]] for tag in scalars if "update_norm" in tag] == [[1]]


def test_texts_say_what_the_run_is(tmp_path):
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9), momentum=0.75)
    fit(tmp_path, model(optimizer=optimizer, metrics=["mae"]), epochs=1, config={"idea": "a | b", "seed": 7})
    texts = read(tmp_path / "run")[1]
    assert "first (Dense)" in texts["summary"]
    rows = dict(re.findall(r"^\| (\S+) \| (.*) \|$", texts["configuration"], flags=re.MULTILINE))
    assert rows["optimizer"] == "SGD"
    assert rows["optimizer.momentum"] == "0.75"
    assert "ExponentialDecay" in rows["optimizer.learning_rate"]
    assert rows["loss"] == "mse"
    assert rows["metrics"] == "mae, loss" or rows["metrics"] == "loss, mae"
    assert rows["dtype_policy"] == "float32"
    assert rows["replicas"] == "1"
    assert rows["keras"] == keras.__version__
    assert rows["fit.epochs"] == "1"
    assert rows["config.idea"] == "a \\| b"
    assert rows["config.seed"] == "7"


def test_components_and_functions_contribute_pictures(tmp_path):
    inner = keras.Sequential([DropConnect(MaxoutDense(2, 3, name="pieces"), 0.5)], name="inner")
    net = model(inner, keras.layers.Dense(1))
    fit(tmp_path, net, epochs=2, images={"kernel": lambda m: np.full((4, 5, 1), 0.5)})
    images = read(tmp_path / "run")[2]
    assert len(images["kernel"]) == 2
    tag = next(tag for tag in images if tag.endswith("activations"))
    assert "pieces" in tag
    assert "inner" in tag
    # TensorBoard's images are width, height and then the PNG files.
    width, height, png = images[tag][0][1]
    assert (int(width), int(height)) == (2 * 96, 96)
    assert png.startswith(b"\x89PNG")


def test_a_second_fit_goes_on(tmp_path):
    net = model()
    board = TensorBoard(tmp_path)
    x, y = data()
    net.fit(x, y, epochs=1, verbose=0, callbacks=[board])
    net.fit(x, y, epochs=3, initial_epoch=1, verbose=0, callbacks=[board])
    scalars = read(tmp_path / "train")[0]
    assert [step for step, _ in scalars["epoch_loss"]] == [0, 1, 2]
    update = next(tag for tag in scalars if tag.startswith("epoch_update_norm"))
    assert [step for step, _ in scalars[update]] == [0, 1, 2]


def test_keras_still_writes_what_it_wrote(tmp_path):
    x, y = data()
    fit(tmp_path / "ours", model(), epochs=1, validation_data=(x, y), histogram_freq=1)
    net = model()
    board = keras.callbacks.TensorBoard(tmp_path / "theirs", histogram_freq=1)
    net.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[board], validation_data=(x, y))
    for part in ("train", "validation"):
        assert set(read(tmp_path / "theirs" / part)[0]) <= set(read(tmp_path / "ours" / part)[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norms_freq": -1}, ValueError, "TensorBoard: expected norms_freq >= 0; got norms_freq=-1. Pass 0 for none."),
        ({"image_freq": 0.5}, TypeError, "TensorBoard: expected an integer for image_freq; got image_freq=0.5."),
        ({"images": [1]}, TypeError, "TensorBoard: expected a dict of functions for images; got images=[1]."),
        ({"images": {"a": 1}}, TypeError, "TensorBoard: expected a dict of functions for images; got images={'a': 1}."),
        ({"config": "seed"}, TypeError, "TensorBoard: expected a dict for config; got config='seed'."),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TensorBoard(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 3)), "expected an image of shape"),
        (np.zeros((3, 3, 2)), "expected an image of shape"),
        (np.full((3, 3, 1), 2.0), "in [0, 1] or of dtype uint8; got tag='mine', dtype='float64'. Divide"),
        (np.zeros((3, 3, 1), "int64"), "in [0, 1] or of dtype uint8"),
    ],
)
def test_wrong_pictures_are_refused(tmp_path, image, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(tmp_path, model(), epochs=1, images={"mine": lambda m: image})
