"""What the TensorBoard callback writes, read back from its files."""

import os
import re

import keras
import numpy as np
import pytest
from event_files import read

from keras_kicks.callbacks import TensorBoard
from keras_kicks.layers import MaxoutDense
from keras_kicks.losses import LogitsDistillation
from keras_kicks.models import Distiller
from keras_kicks.optimizers import GradientClipping, Lookahead

pytestmark = pytest.mark.tensorflow


def data(n=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)).astype("float32"), rng.normal(size=(n, 1)).astype("float32")


def model(*layers, optimizer="sgd", **arguments):
    layers = layers or (keras.layers.Dense(3, name="first"), keras.layers.Dense(1, name="second"))
    built = keras.Sequential([keras.Input((4,)), *layers], name="model")
    built.compile(optimizer, "mse", **arguments)
    return built


def fit(folder, model, callbacks=(), validation_data=None, epochs=2, **arguments):
    """Train for three batches an epoch."""
    board = TensorBoard(folder, **arguments)
    fit_arguments = {"validation_data": validation_data, "epochs": epochs, "batch_size": 8, "verbose": 0}
    model.fit(*data(), callbacks=[*callbacks, board], **fit_arguments)
    return read(folder / "train")


@pytest.mark.parametrize(("frequency", "batches"), [("epoch", []), (2, [2, 4, 6]), ("batch", [1, 2, 3, 4, 5, 6])])
def test_learning_rate_follows_the_schedule(tmp_path, frequency, batches):
    schedule = keras.optimizers.schedules.InverseTimeDecay(0.5, 1, 1.0)
    found = fit(tmp_path, model(optimizer=keras.optimizers.SGD(schedule)), update_freq=frequency)
    assert dict(found["epoch_learning_rate"]) == pytest.approx({0: 0.5 / (1 + 3), 1: 0.5 / (1 + 6)})
    assert dict(found.get("batch_learning_rate", [])) == pytest.approx({n: 0.5 / (1 + n) for n in batches})


def test_learning_rate_is_that_of_the_optimizer_inside_of_loss_scaling(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    found = fit(tmp_path, model(optimizer=keras.optimizers.SGD(0.25)), update_freq=3)
    assert found["epoch_learning_rate"] == [(0, 0.25), (1, 0.25)]
    assert found["batch_learning_rate"] == [(3, 0.25), (6, 0.25)]


@pytest.mark.parametrize("around", [lambda o: o, keras.optimizers.LossScaleOptimizer, lambda o: Lookahead(o)])
def test_clipping_is_shown(tmp_path, around):
    optimizer = GradientClipping(keras.optimizers.SGD(0.1), limit=1e-3, non_finite="skip")
    found = fit(tmp_path, model(optimizer=around(optimizer)), update_freq=3)
    assert [step for step, _ in found["epoch_clip_rate"]] == [0, 1]
    assert found["epoch_clip_rate"][1] == (1, 1.0)
    assert found["batch_gradient_norm"][-1] == (6, pytest.approx(optimizer.gradient_norm, rel=1e-6))
    assert optimizer.gradient_norm > 1e-3
    assert found["epoch_non_finite_steps"] == [(0, 0.0), (1, 0.0)]
    assert "epoch_clip_rate" not in fit(tmp_path / "other", model())


class Weights(keras.callbacks.Callback):
    """Keeps the weights at the start and at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.kept = [self.model.get_weights()]

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
    found = fit(tmp_path, net, callbacks=[weights], epochs=3)
    for i, layer in enumerate(("first", "second")):
        for epoch in range(3):
            before, after = (kept[2 * i : 2 * i + 2] for kept in weights.kept[epoch : epoch + 2])
            update = norm([a - b for a, b in zip(after, before, strict=True)])
            assert dict(found[f"epoch_weight_norm/{layer}"])[epoch] == pytest.approx(norm(after), rel=1e-5)
            assert dict(found[f"epoch_update_norm/{layer}"])[epoch] == pytest.approx(update, rel=1e-4)
            assert dict(found[f"epoch_update_ratio/{layer}"])[epoch] == pytest.approx(update / norm(after), rel=1e-4)


@pytest.mark.parametrize(("frequency", "epochs"), [(0, []), (2, [0, 2])])
def test_norms_and_pictures_come_as_often_as_asked(tmp_path, frequency, epochs):
    images = {"mine": lambda model: np.zeros((2, 2, 1))}
    found = fit(tmp_path, model(), epochs=4, norms_freq=frequency, image_freq=frequency, images=images)
    tags = [tag for tag in found if re.search("weight_norm|update_(norm|ratio)", tag)]
    assert len(tags) == (6 if epochs else 0)
    assert all([step for step, _ in found[tag]] == epochs for tag in tags)
    assert [step for step, _ in read(tmp_path / "run").get("mine", [])] == epochs


def test_a_model_that_its_first_batch_builds_has_updates_from_the_second_record(tmp_path):
    net = keras.Sequential([keras.layers.Dense(1, name="only")])
    net.compile("sgd", "mse")
    found = fit(tmp_path, net)
    assert [step for step, _ in found["epoch_weight_norm/only"]] == [0, 1]
    assert [step for step, _ in found["epoch_update_norm/only"]] == [1]


def test_the_run_is_described_and_drawn(tmp_path):
    net = model(MaxoutDense(2, 3, name="pieces"), keras.layers.Dense(1), metrics=["mae"])
    images = {"mine": lambda model: np.full((2, 4, 5, 1), 0.5)}
    fit(tmp_path, net, update_freq=2, images=images, config={"idea": "none"})
    found = read(tmp_path / "run")
    ((step, summary),) = found["summary"]
    assert step == 0
    assert b"pieces (MaxoutDense)" in summary
    ((_, configuration),) = found["configuration"]
    assert b"| config.idea | none |" in configuration
    assert re.search(rb"\| metrics \| (loss, mae|mae, loss) \|", configuration)
    (first, image), (second, _) = found["mine"]
    assert (first, second) == (0, 1)
    width, height, *files = image
    assert (int(width), int(height), len(files)) == (5, 4, 2)
    assert all(png.startswith(b"\x89PNG") for png in files)
    assert len(found["pieces/activations"]) == 2


def test_a_second_fit_goes_on(tmp_path):
    net, (x, y) = model(), data()
    board = TensorBoard(tmp_path, update_freq=2)
    net.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[board])
    net.fit(x, y, batch_size=8, epochs=3, initial_epoch=1, verbose=0, callbacks=[board])
    found = read(tmp_path / "train")
    for tag in ("epoch_loss", "epoch_examples_per_second", "epoch_update_norm/first"):
        assert [step for step, _ in found[tag]] == [0, 1, 2]
    # Nine batches. Those of Keras are on the same axis; with Keras 3.12, all of them are written.
    assert [step for step, _ in found["batch_learning_rate"]] == [2, 4, 6, 8]
    steps = [step for step, _ in found["batch_loss"]]
    assert steps == sorted(set(steps))
    texts = read(tmp_path / "run")
    assert [step for step, _ in texts["summary"]] == [0]
    assert [step for step, _ in texts["configuration"]] == [0, 1]
    assert [re.findall(rb"fit.epochs \| (\d)", text) for _, text in texts["configuration"]] == [[b"1"], [b"3"]]


def test_a_distiller_shows_its_student(tmp_path):
    teacher, student = (
        keras.Sequential([keras.Input((4,)), MaxoutDense(3, 2, name="out")], name=name)
        for name in ("teacher", "student")
    )
    net = Distiller(teacher, student, LogitsDistillation())
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(data()[0], np.zeros(20), verbose=0, callbacks=[TensorBoard(tmp_path)])
    found = read(tmp_path / "train")
    weights = [tag for tag in found if "weight_norm" in tag]
    # The distiller's count of steps is no weight, and the teacher no part of it.
    assert weights == ["epoch_weight_norm/student/out"]
    assert found[weights[0]][0][1] == pytest.approx(norm(student.get_weights()), rel=1e-5)
    assert "epoch_examples_per_second" in found
    found = read(tmp_path / "run")
    assert "student/out/activations" in found
    (metrics,) = re.findall(r"\| metrics \| (.*) \|", found["configuration"][0][1].decode())
    assert sorted(metrics.split(", ")) == ["agreement", "hard_loss", "loss", "soft_loss"]


def test_keras_still_writes_what_it_wrote(tmp_path):
    (x, y), arguments = data(), {"histogram_freq": 1, "update_freq": "batch", "write_steps_per_second": True}
    fit(tmp_path / "ours", model(), epochs=1, validation_data=(x, y), **arguments)
    net = model()
    board = keras.callbacks.TensorBoard(tmp_path / "theirs", **arguments)
    net.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[board], validation_data=(x, y))
    for part in ("train", "validation"):
        ours, theirs = read(tmp_path / "ours" / part), read(tmp_path / "theirs" / part)
        assert set(theirs) <= set(ours)
        assert all([s for s, _ in theirs[tag]] == [s for s, _ in ours[tag]] for tag in theirs)


def test_arguments_have_the_places_of_those_of_keras(tmp_path):
    board = TensorBoard(tmp_path, 2, False)
    assert (board.log_dir, board.histogram_freq, board.write_graph, board.norms_freq) == (str(tmp_path), 2, False, 1)


FREQUENCY = 'TensorBoard: expected update_freq to be "epoch", "batch" or an integer >= 1; got update_freq='


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norms_freq": -1}, ValueError, "TensorBoard: expected norms_freq >= 0; got norms_freq=-1. Pass 0 for none."),
        ({"image_freq": 0.5}, TypeError, "TensorBoard: expected an integer for image_freq; got image_freq=0.5."),
        ({"update_freq": 0}, ValueError, f"{FREQUENCY}0."),
        ({"update_freq": "never"}, ValueError, f"{FREQUENCY}'never'."),
        ({"images": [1]}, TypeError, "TensorBoard: expected a dict of functions for images; got images=[1]."),
        ({"images": {"a": 1}}, TypeError, "TensorBoard: expected a dict of functions for images; got images={'a': 1}."),
        ({"config": "seed"}, TypeError, "TensorBoard: expected a dict for config; got config='seed'."),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TensorBoard(tmp_path, **arguments)
    assert not os.listdir(tmp_path)
