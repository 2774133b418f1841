"""What does distillation cost beside the steps it is made of?"""

import functools

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import fit_step
from keras_kicks.losses import FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller

# There is no public call for one step of what `fit(teacher_cache=…)` feeds.
from keras_kicks.models.taught_data import teach
from keras_kicks.models.teachers import Teachers

CACHED, UNCACHED, PEER = "Distiller, teacher cached", "Distiller", "keras.distillation.Distiller"
EPOCHS = 5
STUDENT, BOTH = "student's own step", "teacher's forward pass and student's step"


def cnn(width, name):
    """Return a CNN on images of shape (32, 32, 3) with a named feature map; of one width always the same weights."""
    keras.utils.set_random_seed(SEED)
    layers = [
        keras.layers.Conv2D(width, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(64, 3, strides=2, activation="relu", name="features"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(100),
    ]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers], name=name)


def compiled(model):
    """Compile a model as all contestants are."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=False)
    return model


def contestants(distillers, peer, teacher, student, x, y):
    """Return the steps to compare."""
    import tensorflow as tf

    features = [loss.teacher_layer_name for loss in distillers[0].distillation_losses if loss.teacher_layer_name]
    cache = Teachers([teacher], features, None, "benchmark").cache("memory")
    images, forward = tf.constant(x), tf.function(lambda x: teacher(x, training=False), autograph=False)
    student_step = fit_step(student, x, y)

    def both():
        forward(images)
        student_step()

    return {
        CACHED: fit_step(distillers[0], teach(x, cache, len(x)), y),
        UNCACHED: fit_step(distillers[1], x, y),
        PEER: fit_step(peer, x, y),
        STUDENT: student_step,
        BOTH: both,
    }


def expect_equal_losses(steps):
    """Raise unless the first step of every distiller finds the same loss."""
    losses = [float(steps[name]()["loss"]) for name in (CACHED, UNCACHED, PEER)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)


def steps(smoke):
    """Time single steps on a batch of 64."""
    rng = np.random.default_rng(SEED)
    x, y = rng.normal(size=(64, 32, 32, 3)).astype("float32"), rng.integers(0, 100, 64)
    width = 8 if smoke else 32
    ratios = [Ratio(CACHED, STUDENT, 1.15), Ratio(UNCACHED, BOTH, 1.10), Ratio(CACHED, PEER), Ratio(UNCACHED, PEER)]
    for losses in ("logits", "logits and features"):
        ours = [LogitsDistillation(3.0)]
        # Keras's default, a name, finds 0 for logits that differ.
        theirs = [keras.distillation.LogitsDistillation(3.0, loss=keras.losses.KLDivergence())]
        if losses != "logits":
            ours.append(FeatureDistillation("mse", "features", "features"))
            theirs.append(keras.distillation.FeatureDistillation("mse", "features", "features"))
        teacher = cnn(2 * width, "teacher")
        distillers = [compiled(Distiller(teacher, cnn(width, "student"), ours)) for _ in range(2)]
        peer = compiled(keras.distillation.Distiller(teacher, cnn(width, "student"), theirs))
        runs = contestants(distillers, peer, teacher, compiled(cnn(width, "student")), x, y)
        expect_equal_losses(runs)
        title = f"A step of Distiller on {losses}, CNN on (64, 32, 32, 3)"
        yield Result(title, "ms", race(runs, 3 if smoke else 150), ratios)


def fits(smoke):
    """Time whole calls of `fit`, in which the cache also looks its samples up."""
    import tensorflow as tf

    rng = np.random.default_rng(SEED)
    count, width = (64, 8) if smoke else (2048, 32)
    x, y = rng.normal(size=(count, 32, 32, 3)).astype("float32"), rng.integers(0, 100, count)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)
    teacher, student = cnn(2 * width, "teacher"), cnn(width, "student")
    arrays = {"x": x, "y": y, "batch_size": 64}
    for kind, data in (("arrays", arrays), ("a tf.data.Dataset", {"x": dataset, "shuffle": False})):
        models = {
            CACHED: compiled(Distiller(teacher, keras.models.clone_model(student), LogitsDistillation(3.0))),
            UNCACHED: compiled(Distiller(teacher, keras.models.clone_model(student), LogitsDistillation(3.0))),
            "student alone": compiled(keras.models.clone_model(student)),
        }
        runs = {name: functools.partial(model.fit, **data, epochs=EPOCHS, verbose=0) for name, model in models.items()}
        runs[CACHED] = functools.partial(runs[CACHED], teacher_cache="memory")
        times = race(runs, 2 if smoke else 10, warmup=1)
        title = f"fit of {EPOCHS} epochs on {kind}, {count // 64} steps each, Distiller on logits"
        yield Result(title, "ms", times, [Ratio(CACHED, "student alone"), Ratio(CACHED, UNCACHED)])


def run(smoke=False):
    """Time single steps, and calls of `fit`."""
    return [*steps(smoke), *fits(smoke)]
