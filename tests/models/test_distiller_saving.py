"""What a distiller leaves in files, and how training goes on from them."""

import io
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_kicks.losses import FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller

pytestmark = pytest.mark.tensorflow

WIDTH, CLASSES, TEACHER_WIDTH = 6, 3, 50
RUN = {"batch_size": 8, "shuffle": False, "verbose": 0}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, WIDTH)).astype("float32"), rng.integers(0, CLASSES, 20)


def net(width):
    # No dropout: Keras keeps the state of seeds in no file.
    layers = [keras.layers.Dense(width, name="features"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((WIDTH,)), *layers, keras.layers.Dense(CLASSES)])


def make():
    """A distiller with all that a file has to keep: a schedule, a projection, statistics, slots."""
    keras.utils.set_random_seed(7)
    schedule = keras.optimizers.schedules.PolynomialDecay(5.0, 12, 1.0)
    losses = [LogitsDistillation(schedule), FeatureDistillation("mse", "features", "features")]
    distiller = Distiller(net(TEACHER_WIDTH), net(4), losses, [1.0, 0.5], student_loss_weight=0.3)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.05, momentum=0.9), crossentropy, metrics=["accuracy"])
    return distiller


def state(distiller):
    return [v.numpy() for v in [*distiller.variables, *distiller.optimizer.variables, *distiller.metrics_variables]]


def assert_equal(got, expected):
    for a, b in zip(state(got), state(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cache", [None, "memory"])
def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(cache, data, tmp_path):
    uninterrupted, stopped = make(), make()
    uninterrupted.fit(*data, epochs=4, teacher_cache=cache, **RUN)
    stopped.fit(*data, epochs=2, teacher_cache=cache, **RUN)
    stopped.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert int(loaded.train_steps) == 6
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0), stopped.predict(data[0], verbose=0))
    loaded.teacher = stopped.teacher
    history = loaded.fit(*data, epochs=4, initial_epoch=2, teacher_cache=cache, **RUN).history
    assert_equal(loaded, uninterrupted)
    assert history == {name: values[2:] for name, values in uninterrupted.history.history.items()}


def test_subclassed_models_that_trained_with_a_cache_are_loaded(data, tmp_path):
    """Keras keeps the shapes that a model was first called with, here those of inputs and outputs of the teacher."""
    distiller = Distiller(net(5), Plain(), LogitsDistillation())
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(*data, teacher_cache="memory", **RUN)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0), distiller.predict(data[0], verbose=0))
    for model in (loaded, distiller):
        model.teacher = distiller.teacher
        model.fit(*data, **RUN)
    assert_equal(loaded, distiller)


@keras.saving.register_keras_serializable("tests")
class Plain(keras.Model):
    """A model without symbolic inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.fixture
def loaded(tmp_path):
    distiller = make()
    distiller.optimizer.build(distiller.trainable_variables)  # Keras warns of the missing slots when it loads
    distiller.save(tmp_path / "distiller.keras")
    return keras.saving.load_model(tmp_path / "distiller.keras")


@pytest.mark.parametrize("use", ["fit", "fit_with_cache", "evaluate", "train_on_batch"])
def test_loaded_distiller_asks_for_its_teacher(use, loaded, data):
    assert loaded.teacher is None
    before = [v.numpy() for v in loaded.variables]
    calls = {
        "fit": lambda: loaded.fit(*data, verbose=0),
        "fit_with_cache": lambda: loaded.fit(*data, verbose=0, teacher_cache="memory"),
        "evaluate": lambda: loaded.evaluate(*data, verbose=0),
        "train_on_batch": lambda: loaded.train_on_batch(*data),
    }
    message = r"Distiller: expected a teacher; got teacher=None. A distiller is loaded without its teachers: set `dis"
    with pytest.raises(ValueError, match=message):
        calls[use]()
    for variable, old in zip(loaded.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    assert loaded.predict(data[0], verbose=0).shape == (20, CLASSES)


def test_loaded_distiller_takes_no_teacher_that_its_projection_does_not_fit(loaded):
    with pytest.raises(ValueError, match=r"the 50 channels that the projection was built for; got teacher=\(None, 9\)"):
        loaded.teacher = net(9)
    assert loaded.teacher is None


def shapes_in(path):
    """Return the shapes of all arrays in a `.keras` file."""
    import h5py

    shapes = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    return shapes


def test_file_holds_each_variable_once_and_no_teacher(data, tmp_path):
    distiller = make()
    distiller.fit(*data, **RUN)
    path = tmp_path / "distiller.keras"
    distiller.save(path)
    held = [*distiller.variables, *distiller.optimizer.variables]
    assert sorted(shapes_in(path)) == sorted(tuple(v.shape) for v in held)
    assert (WIDTH, TEACHER_WIDTH) not in shapes_in(path)
    with zipfile.ZipFile(path) as archive:
        assert f'"units": {TEACHER_WIDTH}' not in archive.read("config.json").decode()


def test_weights_are_saved_and_loaded_by_themselves(data, tmp_path):
    distiller, other = make(), make()
    for model, epochs in ((distiller, 2), (other, 1)):
        model.fit(*data, epochs=epochs, **RUN)
    distiller.save_weights(tmp_path / "distiller.weights.h5")
    other.load_weights(tmp_path / "distiller.weights.h5")
    for got, expected in zip(other.variables, distiller.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_checkpoints_are_files_of_the_same_kind(data, tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", monitor="agreement", mode="max")
    distiller = make()
    distiller.fit(*data, epochs=2, callbacks=[checkpoint], **RUN)
    for a, b in zip(keras.saving.load_model(tmp_path / "2.keras").variables, distiller.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_backup_is_restored_after_an_interruption(data, tmp_path):
    uninterrupted, interrupted, restored = make(), make(), make()
    uninterrupted.fit(*data, epochs=4, **RUN)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(*data, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "b"), Stop()], **RUN)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "b")
    assert restored.fit(*data, epochs=4, callbacks=[backup], **RUN).epoch == [3]
    for got, expected in zip(restored.variables, uninterrupted.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected.numpy())


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_student_is_exported_and_goes_on_alone(kind, data, tmp_path):
    distiller = make()
    distiller.fit(*data, **RUN)
    path = tmp_path / "student.keras"
    student = distiller.export_student(kind(path))
    assert student is distiller.student
    assert list(tmp_path.iterdir()) == [path]
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0), distiller.predict(data[0], verbose=0))
    student.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = student.get_weights()[-2]
    student.fit(*data, **RUN)
    assert np.abs(student.get_weights()[-2] - before).max() > 0
    assert distiller.export_student() is student


@pytest.mark.slow
def test_exported_student_needs_no_keras_kicks(data, tmp_path):
    distiller = make()
    distiller.fit(*data, **RUN)
    distiller.export_student(tmp_path / "student.keras")
    np.save(tmp_path / "x.npy", data[0])
    code = """
import sys, keras, numpy as np
outputs = keras.saving.load_model("student.keras")(np.load("x.npy"), training=False)
np.save("y.npy", keras.ops.convert_to_numpy(outputs))
assert not any(name.startswith("keras_kicks") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), distiller.student(data[0]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("before", [None, b"an older student"])
def test_failed_export_leaves_what_was_there(before, tmp_path, monkeypatch):
    distiller = make()
    path = tmp_path / "student.keras"
    if before is not None:
        path.write_bytes(before)

    def half_saved(self, target, *args, **kwargs):
        pathlib.Path(target).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(keras.Sequential, "save", half_saved)
    with pytest.raises(OSError, match="no space left"):
        distiller.export_student(path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == ({} if before is None else {path: before})


def test_student_is_exported_to_a_keras_file_only(tmp_path):
    message = r"Distiller: expected a path that ends in .keras; got path=.*student.h5'"
    with pytest.raises(ValueError, match=message):
        make().export_student(tmp_path / "student.h5")
    with pytest.raises(TypeError, match="Distiller: expected a path; got path=3"):
        make().export_student(3)
    assert not list(tmp_path.iterdir())
