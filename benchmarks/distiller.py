"""What does distillation cost beside the steps it is made of?"""

import keras
import numpy as np

from benchmarks.harness import Result, Target, race
from keras_kicks.losses import FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller
from keras_kicks.models.taught_data import teach
from keras_kicks.models.teachers import Teachers

CACHED, UNCACHED = "Distiller, teacher cached", "Distiller"
STUDENT, BOTH = "student's own step", "teacher forward and student's step"


def cnn(width, name):
    """Return a CNN on images of shape (32, 32, 3) with a named feature map."""
    layers = [
        keras.layers.Conv2D(width, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(2 * width, 3, strides=2, activation="relu", name="features"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(100),
    ]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers], name=name)


def compiled(model):
    """Compile a model as all contestants are."""
    model.compile(
        keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    return model


def train_steps(model, x, y):
    """Return a run of one step of `fit`, on a batch that is there already."""
    import tensorflow as tf

    batch = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
    model.train_step(batch)
    step = tf.function(model.train_step, autograph=False)
    return lambda: step(batch)


def run(smoke=False):
    """Time one step on a batch of 64: the function that `fit` runs, without its loop."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 32, 32, 3)).astype("float32"), rng.integers(0, 100, 64)
    width = 8 if smoke else 32
    teacher = cnn(2 * width, "teacher")
    images = tf.constant(x)
    forward = tf.function(lambda: teacher(images, training=False), autograph=False)
    rounds = 3 if smoke else 60
    results = []
    for features in (False, True):
        ours = [LogitsDistillation(3.0)]
        theirs = [keras.distillation.LogitsDistillation(3.0, loss=keras.losses.KLDivergence())]
        if features:
            # Keras's has no projection: features of the same width.
            ours.append(FeatureDistillation("mse", "features", "features"))
            theirs.append(keras.distillation.FeatureDistillation("mse", "features", "features"))
            teacher = cnn(width, "teacher")
        student = train_steps(compiled(cnn(width, "student")), x, y)
        distillers = [compiled(Distiller(teacher, cnn(width, "student"), ours)) for _ in range(2)]
        cache = Teachers([teacher], ["features"] if features else [], None, "benchmark").cache("memory")
        peer = compiled(keras.distillation.Distiller(teacher, cnn(width, "student"), theirs))

        def both(student=student):
            forward()
            student()

        contestants = {
            CACHED: train_steps(distillers[0], teach(x, cache), y),
            UNCACHED: train_steps(distillers[1], x, y),
            "keras.distillation.Distiller": train_steps(peer, x, y),
            STUDENT: student,
            BOTH: both,
        }
        targets = [Target(CACHED, STUDENT, 1.15), Target(UNCACHED, BOTH, 1.10)]
        title = f"Distiller, CNN on (64, 32, 32, 3), {'logits and features' if features else 'logits'}"
        results.append(Result(title, "ms", race(contestants, rounds), targets))
    return results
