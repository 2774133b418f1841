"""GeneralizationGap: what `evaluate` finds, and what curves say."""

import re

import event_files
import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.callbacks import GeneralizationGap, TensorBoard, learning_curves_picture
from keras_kicks.callbacks.drawn_samples import drawn_samples
from keras_kicks.callbacks.gap_verdict import gap_verdict


def make_data(seed=0, size=48):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 6)).astype("float32")
    return x, (x[:, :1] > 0).astype("float32")


def make_model(**compiled):
    keras.utils.set_random_seed(7)
    parts = [layers.Dense(16, "relu"), layers.BatchNormalization(), layers.Dropout(0.5, seed=3)]
    model = keras.Sequential([keras.Input((6,)), *parts, layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], **compiled)
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    arguments = {"validation_data": make_data(1), "verbose": 0, "shuffle": False, "batch_size": 16, **arguments}
    return model.fit(*make_data(), epochs=epochs, callbacks=list(callbacks), **arguments).history


class Evaluate(keras.callbacks.Callback):
    """Evaluates a copy of the model after each epoch."""

    def __init__(self, data):
        super().__init__()
        self.data, self.found, self.copy = data, [], make_model()

    def on_epoch_end(self, epoch, logs=None):
        self.copy.set_weights(self.model.get_weights())
        self.found.append(self.copy.evaluate(*self.data, verbose=0))


@pytest.mark.parametrize("samples", [None, 20])
def test_it_is_what_evaluate_finds(samples):
    data = make_data()
    gap = GeneralizationGap(data, samples=samples, seed=5)
    peer = Evaluate(data if samples is None else drawn_samples("test", data, samples, 5))
    model, same = make_model(), make_model()
    history, plain = fit(model, peer, gap), fit(same)
    found = np.array(peer.found)
    np.testing.assert_allclose(history["train_loss"], found[:, 0], rtol=1e-5)
    np.testing.assert_allclose(history["train_accuracy"], found[:, 1], rtol=1e-5)
    np.testing.assert_allclose(history["gap"], history["val_loss"] - found[:, 0], atol=1e-6)
    np.testing.assert_allclose(history["gap_accuracy"], history["val_accuracy"] - found[:, 1], atol=1e-6)
    assert gap.history == {"epoch": [0, 1, 2], **history}
    # With Dropout, Keras's running mean is another number; and training went on as without.
    assert np.abs(found[:, 0] - history["loss"]).min() > 0.01
    assert {name: history[name] for name in plain} == plain
    for a, b in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_others_may_watch_it(tmp_path):
    pytest.importorskip("tensorflow")
    gap = GeneralizationGap(make_data(), validation_data=make_data(1))
    stopping = keras.callbacks.EarlyStopping("train_loss", mode="max", patience=1)
    board = TensorBoard(tmp_path, norms_freq=0)
    history = fit(make_model(), gap, stopping, board, epochs=9, validation_data=None)
    assert len(history["gap"]) < 9
    tags = event_files.read(tmp_path / "train")
    np.testing.assert_allclose([value for _, value in tags["epoch_gap"]], history["gap"], rtol=1e-6)


def test_epochs_that_are_not_validated():
    gap = GeneralizationGap(make_data(), samples=8)
    with pytest.raises(ValueError, match="GeneralizationGap: expected validation data; got logs="):
        fit(make_model(), gap, validation_data=None)
    fit(make_model(), gap, epochs=4, validation_freq=[1, 3])
    assert gap.history["epoch"] == [0, 2]
    assert len(gap.history["gap"]) == 2


def test_records_for_tensorboard(tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("matplotlib")
    gap = GeneralizationGap(make_data(), log_dir=tmp_path)
    history = fit(make_model(), gap, epochs=5)
    tags, kinds = (read(tmp_path / "generalization_gap") for read in (event_files.read, event_files.kinds))
    scalars = [tag for tag, kind in kinds.items() if kind == "scalars"]
    names = ("loss", "accuracy")
    assert set(scalars) == {*(f"{part}_{name}" for part in ("train", "val") for name in names), "gap", "gap_accuracy"}
    for tag in scalars:
        np.testing.assert_allclose([value for _, value in tags[tag]], history[tag], rtol=1e-6)
    assert {kinds["verdict"], kinds["learning_curves"]} == {"text", "images"}
    assert tags["verdict"][0][1].decode() == f"**{gap.verdict}**: {gap.reason}"
    assert tags["learning_curves"][0][1][:2].tolist() == [b"700", b"400"]


def test_pictures():
    pytest.importorskip("matplotlib")
    gap = GeneralizationGap(make_data())
    fit(make_model(), gap)
    for metric in ("loss", "accuracy"):
        picture = gap.picture(metric)
        assert picture.shape == (400, 700, 3)
        assert picture.dtype == np.uint8
        assert len(np.unique(picture)) > 10
    with pytest.raises(
        ValueError, match=re.escape("expected metric to be one of ['accuracy', 'loss']; got metric='auc'")
    ):
        gap.picture("auc")
    assert learning_curves_picture([1.0], [np.nan]).shape == (400, 700, 3)
    with pytest.raises(ValueError, match=re.escape("expected metric to be one of []; got metric='loss'")):
        GeneralizationGap(make_data()).picture()


FALLING = 1 / np.arange(1, 21)


@pytest.mark.parametrize(
    ("train", "validation", "target", "verdict"),
    [
        (FALLING, FALLING + 0.1, None, "improving"),
        (FALLING, [*FALLING[:8], *(FALLING[7] + 0.02 * np.arange(12))], None, "overfitting"),
        # The same with another zero of the loss and another scale.
        (
            9 * FALLING - 50,
            9 * np.array([*FALLING[:8], *(FALLING[7] + 0.02 * np.arange(12))]) - 50,
            None,
            "overfitting",
        ),
        # A rise of a hundredth of what was gained, or one bad epoch, is no overfitting; nor if training is worse too.
        (FALLING, [*FALLING[:8], *([FALLING[7] + 0.008] * 12)], None, "flat"),
        (FALLING, [*FALLING[:8], *([FALLING[7] + 1e-9] * 11), 3.0], None, "flat"),
        (
            [*FALLING[:8], *(FALLING[7] + 0.02 * np.arange(12))],
            [*FALLING[:8], *(FALLING[7] + 0.02 * np.arange(12))],
            None,
            "flat",
        ),
        # It rises from the first epoch on.
        (FALLING, 1 + 0.1 * np.arange(20), None, "overfitting"),
        (FALLING + 1, FALLING + 1.1, None, "improving"),
        (FALLING + 1, FALLING + 1.1, 0.5, "underfitting"),
        (FALLING + 1, FALLING + 2.1, 0.5, "improving"),
        (FALLING + 1, FALLING + 1.1, 1.0, "improving"),
        ([1.0, 0.5, 0.2], [1.0, 0.5, 0.2], None, "unknown"),
        ([1.0, 0.5, 0.2, np.nan], [1.0, 0.5, 0.2, 0.1], None, "unknown"),
    ],
)
def test_what_curves_say(train, validation, target, verdict):
    found, reason = gap_verdict(train, validation, target)
    assert found == verdict
    assert reason.endswith(".")


def test_numbers_of_a_verdict():
    validation = [1.0, 0.5, 0.6, 0.7, 0.8]
    assert gap_verdict([1.0, 0.5, 0.4, 0.3, 0.2], validation) == (
        "overfitting",
        "The validation loss was best, 0.5, in epoch 2 of 5, and has since risen by 0.2 "
        "(25% of what training had gained) while the training loss fell by 0.3.",
    )


def batches_of(kind, x, y):
    """Return data in batches of 5, of a kind."""

    class Batches(keras.utils.PyDataset):
        """Batches by their number."""

        def __len__(self):
            return -(-len(x) // 5)

        def __getitem__(self, i):
            return {"a": x[5 * i : 5 * i + 5]}, y[5 * i : 5 * i + 5]

    if kind == "PyDataset":
        return Batches()
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(({"a": x}, y)).batch(5)


@pytest.mark.parametrize("kind", ["arrays", "PyDataset", pytest.param("tf.data", marks=pytest.mark.tensorflow)])
def test_samples_are_drawn_without_replacement_each_with_the_same_chance(kind):
    x, y = np.arange(23), np.arange(23) * 10
    counts = np.zeros(23)
    for seed in range(60):
        data = ({"a": x}, y) if kind == "arrays" else batches_of(kind, x, y)
        drawn, labels = drawn_samples("test", data, 8, seed)
        np.testing.assert_array_equal(drawn["a"] * 10, labels)
        assert len(np.unique(labels)) == 8
        counts[drawn["a"]] += 1
    # 60 draws of 8 out of 23: 20.9 times each, with a deviation of 3.7.
    assert counts.min() > 20.9 - 4 * 3.7
    assert counts.max() < 20.9 + 4 * 3.7
    (drawn, _), (again, _) = (drawn_samples("test", data, 8, 3) for _ in range(2))
    np.testing.assert_array_equal(drawn["a"], again["a"])
    assert len(drawn_samples("test", data, 99, 0)[1]) == 23
    if kind != "arrays":
        assert drawn_samples("test", data, 99, 0, steps=2)[1].max() == 90


@pytest.mark.tensorflow
def test_data_without_an_end():
    import tensorflow as tf

    x, y = make_data()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
    with pytest.raises(ValueError, match="GeneralizationGap: expected data that end; got data="):
        GeneralizationGap(data, samples=9)
    gap = GeneralizationGap(data, steps=6)
    peer = Evaluate(make_data())
    np.testing.assert_allclose(fit(make_model(), peer, gap)["train_loss"], np.array(peer.found)[:, 0], rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.slow
def test_replicas(strategy):
    with strategy.scope():
        model = make_model()
    gap = GeneralizationGap(make_data())
    history = fit(model, gap, epochs=1)
    assert history["train_loss"] == pytest.approx([model.evaluate(*make_data(), verbose=0)[0]], rel=1e-5)
    assert ops.convert_to_numpy(model.optimizer.iterations) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": None}, TypeError, "expected training data; got data=None. A callback does not see those of fit."),
        ({"data": (i for i in "a")}, TypeError, "expected data that can be read again and again; got data=<generator"),
        ({"samples": 0}, ValueError, "expected samples >= 1; got samples=0"),
        ({"steps": 1.5}, TypeError, "expected an integer for steps; got steps=1.5"),
        ({"target": "low"}, TypeError, "expected a number for target; got target='low'"),
        ({"seed": "a"}, TypeError, "expected an integer for seed; got seed='a'"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"GeneralizationGap: {message}")):
        GeneralizationGap(**{"data": make_data(), **arguments})


def test_no_data():
    with pytest.raises(ValueError, match="test: expected data with at least one batch"):
        drawn_samples("test", [], 3, 0)


def test_any_integer_is_a_seed():
    one, other = (GeneralizationGap(make_data(), samples=3, seed=-1).data for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    assert len(one[0]) == 3
