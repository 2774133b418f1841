"""Training with the teachers' outputs from a cache, against training with the teachers themselves."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller

pytestmark = pytest.mark.tensorflow

N, WIDTH, CLASSES = 37, 6, 3


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, WIDTH)).astype("float32")
    return x, rng.integers(0, CLASSES, N), rng.random(N).astype("float32")


class Rows(keras.layers.Layer):
    """Passes its inputs on, and counts the rows that really run through it, in a graph too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def call(self, inputs):
        import tensorflow as tf

        outputs = tf.numpy_function(self._count, [inputs], inputs.dtype)
        outputs.set_shape(inputs.shape)
        return outputs

    def _count(self, x):
        self.seen.append(len(x))
        return x


def net(width, *first, norm=False):
    layers = [keras.layers.Dense(width, activation="tanh", name="features")]
    layers += [keras.layers.BatchNormalization()] if norm else []
    return keras.Sequential([keras.Input((WIDTH,)), *first, *layers, keras.layers.Dense(CLASSES)])


def make(teacher=None, losses=None, student=None, **compiled):
    losses = losses or [LogitsDistillation(2.0), FeatureDistillation("mse", "features", "features")]
    distiller = Distiller(teacher or net(8), student or net(4), losses)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), crossentropy, **{"jit_compile": False, **compiled})
    return distiller


def batches(x, y, *more, shuffle=True):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((x, y, *more))
    dataset = dataset.shuffle(N, seed=3, reshuffle_each_iteration=False) if shuffle else dataset
    return dataset.batch(8)


class Batches(keras.utils.PyDataset):
    def __init__(self, *columns):
        super().__init__()
        self.columns = columns

    def __len__(self):
        return -(-N // 8)

    def __getitem__(self, index):
        return tuple(column[8 * index : 8 * index + 8] for column in self.columns)


def after_training(cache, build, given, **arguments):
    """Return the weights and the history of a distiller that is trained with or without a cache."""
    keras.utils.set_random_seed(5)
    distiller = build()
    cached = {} if cache is None else {"teacher_cache": cache}
    history = distiller.fit(*given(), verbose=0, **{"epochs": 2, **arguments}, **cached).history
    return [w.numpy() for w in distiller.trainable_weights], history


def assert_cache_changes_nothing(cache, build, given, rtol=0.0, **arguments):
    expected, history = after_training(None, build, given, **arguments)
    got, cached_history = after_training(cache, build, given, **arguments)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    assert cached_history.keys() == history.keys()
    for name, values in history.items():
        np.testing.assert_allclose(cached_history[name], values, rtol=rtol)


ARRAYS = [
    {"validation_split": 0.3},
    {"shuffle": False, "batch_size": 5, "class_weight": {0: 0.5, 1: 2.0, 2: 0.0}, "initial_epoch": 1},
]


@pytest.mark.parametrize("arguments", ARRAYS)
def test_arrays_train_the_same_weights(arguments, data):
    assert_cache_changes_nothing("memory", make, lambda: data[:2], **arguments)


def test_weights_of_samples_and_validation_data_train_the_same_weights(data):
    x, y, weight = data
    arguments = {"sample_weight": weight, "validation_data": (x[:9], y[:9], weight[:9]), "validation_batch_size": 4}
    assert_cache_changes_nothing("memory", make, lambda: (x, y), **arguments)


def test_datasets_train_the_same_weights(data, tmp_path):
    arguments = {"shuffle": False, "validation_data": batches(*data, shuffle=False).take(2)}
    assert_cache_changes_nothing(tmp_path / "cache", make, lambda: (batches(*data),), **arguments)


def test_py_datasets_train_the_same_weights(data, tmp_path):
    assert_cache_changes_nothing(str(tmp_path / "cache"), make, lambda: (Batches(*data),))


@pytest.mark.parametrize("how", [{"jit_compile": True}, {"run_eagerly": True}])
def test_any_way_to_run_a_step_trains_the_same_weights(how, data):
    # The cache is filled by a graph of its own, which XLA and single operations round differently.
    given = lambda: (batches(*data),)  # noqa: E731
    assert_cache_changes_nothing("memory", lambda: make(**how), given, rtol=1e-5, shuffle=False)


def test_several_teachers_train_the_same_weights(data):
    def build():
        losses = [LogitsDistillation(), FeatureDistillation("mse", "features", "features", teacher_index=1)]
        return make([net(8), net(5, norm=True)], losses)

    assert_cache_changes_nothing("memory", build, lambda: data[:2])


def test_teachers_of_lower_precision_train_the_same_weights(data, tmp_path):
    def build():
        keras.config.set_dtype_policy("bfloat16")
        teacher = net(8)
        keras.config.set_dtype_policy("float32")
        return make(teacher)

    assert_cache_changes_nothing(tmp_path / "cache", build, lambda: data[:2])


def test_inputs_by_name_train_the_same_weights(data):
    x, y, _ = data
    ids = np.random.default_rng(1).integers(0, 5, (N, 2))

    def model():
        a, b = keras.Input((WIDTH,), name="a"), keras.Input((2,), name="b", dtype="int64")
        embedded = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(b))
        return keras.Model({"a": a, "b": b}, keras.layers.Dense(CLASSES)(keras.layers.concatenate([a, embedded])))

    inputs = {"a": x, "b": ids}
    build = lambda: make(model(), LogitsDistillation(), model())  # noqa: E731
    arguments = {"shuffle": False, "validation_data": ({name: value[:9] for name, value in inputs.items()}, y[:9])}
    assert_cache_changes_nothing(
        "memory", build, lambda: (batches(inputs, y).repeat(2),), steps_per_epoch=3, **arguments
    )


def test_strings_train_the_same_weights(data):
    words = np.array(["a", "bb", "é", ""])[np.random.default_rng(1).integers(0, 4, (N, 2))]

    def model():
        inputs = keras.Input((2,), dtype="string")
        ids = keras.layers.StringLookup(vocabulary=["a", "bb", "é"])(inputs)
        hidden = keras.layers.Flatten()(keras.layers.Embedding(4, 3)(ids))
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))

    build = lambda: make(model(), LogitsDistillation(), model())  # noqa: E731
    assert_cache_changes_nothing("memory", build, lambda: (batches(words, data[1]),), shuffle=False)


def test_inputs_alone_train_the_same_weights(data):
    """A dataset of tuples that hold nothing but the inputs, which are themselves a tuple."""
    import tensorflow as tf

    def model():
        a, b = keras.Input((WIDTH,)), keras.Input((WIDTH,))
        return keras.Model((a, b), keras.layers.Dense(CLASSES)(keras.layers.add([a, b])))

    def build():
        distiller = Distiller(model(), model(), LogitsDistillation(), student_loss_weight=0.0)
        distiller.compile("sgd", jit_compile=False)
        return distiller

    given = lambda: (tf.data.Dataset.from_tensor_slices(((data[0], -(data[0] ** 2)),)).batch(8),)  # noqa: E731
    assert_cache_changes_nothing("memory", build, given, shuffle=False)


def test_replicas_train_the_same_weights(data, strategy):
    def build():
        with strategy.scope():
            return make()

    given = lambda: (batches(*(column[:32] for column in data)),)  # noqa: E731
    assert_cache_changes_nothing("memory", build, given, shuffle=False)


def test_dataset_that_reshuffles_begins_with_its_second_order(data):
    import tensorflow as tf

    def given(visits):
        dataset = tf.data.Dataset.from_tensor_slices(data).shuffle(N, seed=3).batch(8)
        for _ in range(visits):
            list(dataset)
        return (dataset,)

    expected, _ = after_training(None, make, lambda: given(1), shuffle=False)
    got, _ = after_training("memory", make, lambda: given(0), shuffle=False)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_sample_runs_through_the_teacher_once(data):
    x, y, _ = data
    rows = Rows()
    distiller = make(net(8, rows))
    distiller.fit(x[:20], y[:20], epochs=3, teacher_cache="memory", verbose=0)
    assert sum(rows.seen) == 20
    distiller.fit(batches(x[:20], y[:20]), epochs=2, teacher_cache="memory", verbose=0, shuffle=False)
    assert sum(rows.seen) == 20
    distiller.fit(x[:20], y[:20], teacher_cache="memory", validation_data=(x[20:], y[20:]), verbose=0)
    assert sum(rows.seen) == N
    distiller.fit(x, y, verbose=0)
    assert sum(rows.seen) == 2 * N


def test_teacher_that_changed_is_run_again(data):
    x, y, _ = data
    rows = Rows()
    teacher = net(8, rows)
    distiller = make(teacher, LogitsDistillation())
    distiller.fit(x, y, teacher_cache="memory", verbose=0)
    teacher.set_weights([2 * w for w in teacher.get_weights()])
    distiller.optimizer.learning_rate = 0.0
    soft = distiller.fit(x, y, teacher_cache="memory", batch_size=N, verbose=0).history["soft_loss"][0]
    assert sum(rows.seen) == 2 * N
    np.testing.assert_allclose(soft, distiller.evaluate(x, y, verbose=0, return_dict=True)["soft_loss"], rtol=1e-5)


class Unnamed(keras.Model):
    """A model without symbolic inputs."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        return self.dense(inputs)


def test_subclassed_models_train_the_same_weights(data):
    def build():
        teacher = Unnamed()
        teacher(ops.zeros((1, WIDTH)))
        return make(teacher, LogitsDistillation(), Unnamed())

    assert_cache_changes_nothing("memory", build, lambda: data[:2])
