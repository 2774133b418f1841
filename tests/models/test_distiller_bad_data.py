"""Data that a distiller cannot learn from, or whose teachers' outputs cannot be kept."""

import keras
import numpy as np
import pytest

from keras_kicks.losses import LogitsDistillation
from keras_kicks.models import Distiller

pytestmark = pytest.mark.tensorflow

WIDTH, CLASSES = 6, 3
X = np.random.default_rng(0).normal(size=(12, WIDTH)).astype("float32")
Y = np.arange(12) % CLASSES


class Counting(keras.Model):
    """A teacher without symbolic inputs that counts its calls."""

    def __init__(self, units=CLASSES):
        super().__init__()
        self.dense = keras.layers.Dense(units)
        self.calls = []

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        self.calls.append(inputs.shape)
        return self.dense(inputs)


def make(teacher=None, loss="sparse_categorical_crossentropy", student_loss_weight=0.5):
    if teacher is None:
        teacher = Counting()
        teacher.build((None, WIDTH))
    student = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(CLASSES)])
    distiller = Distiller(teacher, student, LogitsDistillation(), student_loss_weight=student_loss_weight)
    distiller.compile("sgd", loss)
    return distiller


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("missing", ["labels", "loss"])
def test_labels_and_a_loss_are_needed_unless_they_weigh_nothing(missing, share):
    distiller = make(student_loss_weight=share, **({"loss": None} if missing == "loss" else {}))
    y = None if missing == "labels" else Y
    name = "y" if missing == "labels" else "loss"
    message = (
        rf"Distiller: expected labels and a compiled loss; got .*{name}=None.* Pass both, or set student_loss_weight=0"
    )
    for use in (distiller.fit, distiller.evaluate):
        with pytest.raises(ValueError, match=message):
            use(X, y, verbose=0)


def test_outputs_of_subclassed_models_are_compared_when_they_are_known():
    with pytest.raises(ValueError, match="LogitsDistillation: expected outputs of the same rank with the same, known"):
        make(Counting(units=4)).fit(X, Y, verbose=0)


def dataset(x=X):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, Y)).batch(4)


def generated():
    import tensorflow as tf

    spec = tf.TensorSpec((None, WIDTH)), tf.TensorSpec((None,), "int64")
    return tf.data.Dataset.from_generator(lambda: iter([(X, Y)]), output_signature=spec)


def ragged():
    import tensorflow as tf

    return dataset(tf.RaggedTensor.from_row_lengths(np.ones(12, "float32"), [1] * 12))


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index):
        return X, Y


class Unmeasured(keras.utils.PyDataset):
    def __getitem__(self, index):
        return X, Y


KINDS = "arrays, a tf.data.Dataset of dense tensors or a keras.utils.PyDataset with teacher_cache; got "
DATA = {
    "generator": (lambda: (batch for batch in [(X, Y)]), TypeError, KINDS + "x='generator'. Train without"),
    "iterator": (lambda: iter(dataset()), TypeError, KINDS + "x='OwnedIterator'"),
    "nothing": (lambda: None, TypeError, KINDS + "x='NoneType'"),
    "numbers": (lambda: [1.0, 2.0], TypeError, KINDS + "x='list'"),
    "ragged": (ragged, TypeError, KINDS + "inputs=RaggedTensorSpec"),
    "uneven": (lambda: [X, X[:3]], ValueError, "as many samples in each input; got samples=[12, 3]"),
    "infinite": (
        lambda: dataset().repeat(),
        ValueError,
        "a finite dataset with teacher_cache; got cardinality='infinite'. Use Dataset.take before Dataset.repeat, or",
    ),
    "unknown": (
        generated,
        ValueError,
        "a dataset of known length with teacher_cache; got cardinality='unknown'. Apply tf.data.experimental.assert_",
    ),
    "endless": (
        Endless,
        ValueError,
        "a PyDataset of known length with teacher_cache; got num_batches=None. Implement `__len__`, or",
    ),
    "unmeasured": (Unmeasured, ValueError, "a PyDataset of known length with teacher_cache; got num_batches=None."),
}


@pytest.mark.parametrize("role", ["x", "validation_data"])
@pytest.mark.parametrize("case", DATA)
def test_data_that_no_cache_can_hold_is_refused_before_anything_is_computed(case, role, tmp_path):
    data, error, message = DATA[case]
    given = data()
    if role == "validation_data" and (given is None or isinstance(given, list)):
        given = (given, Y)
    distiller = make()
    with pytest.raises(error) as caught:
        distiller.fit(**{"x": X, "y": Y, role: given}, teacher_cache=tmp_path / "cache", verbose=0)
    assert str(caught.value).startswith("Distiller.fit: expected " + message)
    assert not distiller.teacher.calls
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [lambda: (X[:0], Y[:0]), lambda: (dataset().take(0),)])
def test_empty_data_is_refused(data):
    with pytest.raises(ValueError, match="TeacherCache: expected data with a sample in it; got samples=0"):
        make().fit(*data(), teacher_cache="memory", verbose=0)


@pytest.mark.parametrize(
    ("where", "error"), [(True, TypeError), (3, TypeError), (b"cache", TypeError), ("", ValueError)]
)
def test_cache_is_in_memory_or_at_a_path(where, error):
    with pytest.raises(error, match=rf'Distiller.fit: expected "memory" or a path; got teacher_cache={where!r}'):
        make().fit(X, Y, teacher_cache=where, verbose=0)


def test_teachers_without_weights_have_no_cache(tmp_path):
    """The weights tell the teachers of a cache apart."""
    message = "Distiller.fit: expected teachers that are built, with teacher_cache; got teacher='counting.*Call it on a"
    with pytest.raises(ValueError, match=message):
        make(Counting()).fit(X, Y, teacher_cache=tmp_path / "cache", verbose=0)
    assert not list(tmp_path.iterdir())


class Augmented(keras.utils.PyDataset):
    """Adds noise, other noise at every visit."""

    def __init__(self):
        super().__init__()
        self.noise = np.random.default_rng(0)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index :][:4] + self.noise.normal(size=(4, WIDTH)), Y[4 * index :][:4]


def augmented():
    import tensorflow as tf

    noise = np.random.default_rng(0)

    def add(x, y):
        more = tf.numpy_function(lambda: noise.normal(size=(4, WIDTH)).astype("float32"), [], tf.float32)
        return x + tf.ensure_shape(more, (4, WIDTH)), y

    return dataset().map(add)


@pytest.mark.parametrize("data", [Augmented, augmented])
def test_samples_that_change_are_an_error_that_says_so(data):
    import tensorflow as tf

    message = (
        r"TeacherCache: expected the samples that were there when the cache was filled; got unknown_samples=4. Train"
    )
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        make().fit(data(), teacher_cache="memory", shuffle=False, verbose=0)
