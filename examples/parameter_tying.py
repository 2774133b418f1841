"""Few labels of a new task: does it help to stay near a model of a similar task?

Not in this one. A model of upright digits reads 0.415 of leaning ones. With 3 labels of each leaning digit, over 8
draws, training from scratch reaches 0.811, and beginning with the old model's weights 0.850. To begin there and to be
pulled back (L2-SP, its weight chosen on 30 more labels) gives 0.839, which is 0.011 +- 0.005 less. Both tasks from
scratch in one fit, tied both ways, give 0.841, 0.010 +- 0.014 less: near the good start, without one.
"""

import argparse
import io
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import keras_kicks as kk

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
WEIGHTS = (0.001, 0.01, 0.1)
PER_DIGIT, OLD = 3, 900


def make_data(seed):
    """Return digits as they are; and others that lean, few to train on, few to choose a weight by, many to test on."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = (x[order] / 16).reshape(-1, 8, 8, 1).astype("float32"), y[order]
    shear = [1.0, 0.5, -1.75, 0.0, 1.0, 0.0, 0.0, 0.0]  # A row further down is moved by half a pixel more.
    lean = keras.ops.image.affine_transform(x[OLD:], np.array(shear, "float32"))
    x, lean, answers = x.reshape(-1, 64), np.reshape(lean, (-1, 64)), y[OLD:]
    rows = np.stack([np.flatnonzero(answers == digit)[: 2 * PER_DIGIT] for digit in range(10)])
    rest = np.setdiff1d(np.arange(len(answers)), rows)
    parts = rows[:, :PER_DIGIT].ravel(), rows[:, PER_DIGIT:].ravel(), rest
    return (x[:OLD], y[:OLD]), [(lean[part], answers[part]) for part in parts]


def make_model(seed):
    """Return a small network."""
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(64, "relu", name="hidden"), layers.Dense(32, "relu", name="features")]
    return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10, name="classes")])


def fit(model, x, y, steps, batch_size=10 * PER_DIGIT):
    """Train a model, or two at once, for a number of steps: through all data in new orders, as often as it takes."""
    rng, count = np.random.default_rng(0), len(keras.tree.flatten(x)[0])
    rows = np.concatenate([rng.permutation(count) for _ in range(1 + steps * batch_size // count)])
    x, y = keras.tree.map_structure(lambda array: array[rows[: steps * batch_size]], (x, y))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = [loss] * len(y) if isinstance(y, list) else loss
    model.compile(keras.optimizers.Adam(0.003), losses, jit_compile=False)
    model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)


def accuracy(model, x, y):
    """Return the share of right answers."""
    return float(np.mean(np.argmax(model(x), axis=-1) == y))


def train(name, seed, start, old, new, weight, steps):
    """Return a model of the new task."""
    model = make_model(seed + 100)
    if name in ("fine-tuned", "L2-SP"):
        model.set_weights(start.get_weights())
    if name == "L2-SP":
        tying = kk.regularizers.ParameterTying(start, weight, squared=True)
        fit(kk.models.TiedModel(model, tying), *new, steps)
    elif name == "two-way":
        # Both from scratch, at once, with the few labels of the new task again and again.
        tying = kk.regularizers.ParameterTying(make_model(seed + 200), weight, squared=True, mode="two-way")
        again = np.resize(np.arange(len(new[1])), OLD)
        x, y = [new[0][again], old[0]], [new[1][again], old[1]]
        fit(kk.models.TiedModel(model, tying), x, y, steps, batch_size=64)
    elif name != "the old one":
        fit(model, *new, steps)
    return start if name == "the old one" else model


def figure_of(found):
    """Return a picture of what each draw came to, and of the means."""
    figure = Figure(figsize=(6, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for place, values in enumerate(found.values()):
        axes.plot(np.full(len(values), place), values, "o", alpha=0.4)
        axes.plot(place, np.mean(values), "k_", markersize=24)
    axes.set_xticks(range(len(found)), found)
    axes.set_ylabel("test accuracy")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return tf.io.decode_png(file.getvalue(), channels=3)


def main():
    """Compare over several draws; the weight of a tie is chosen on labels that are held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one draw and two steps, to see that it runs")
    smoke = parser.parse_args().smoke
    seeds, steps = (range(1), 2) if smoke else (range(8), 300)
    names = ("the old one", "from scratch", "fine-tuned", "L2-SP", "two-way")
    tf.get_logger().setLevel("ERROR")  # It would warn of the many models.
    folder, found = os.path.join(LOGS, "parameter_tying", time.strftime("%Y%m%d-%H%M%S")), {name: [] for name in names}
    for seed in seeds:
        old, (new, choice, test) = make_data(seed)
        start = make_model(seed)
        fit(start, *old, steps, batch_size=64)
        for name in names:
            weights = WEIGHTS if name in ("L2-SP", "two-way") and not smoke else WEIGHTS[:1]
            models = {weight: train(name, seed, start, old, new, weight, steps) for weight in weights}
            best = max(models, key=lambda weight, models=models: accuracy(models[weight], *choice))
            found[name].append(accuracy(models[best], *test))
    print(f"test accuracy on leaning digits with {PER_DIGIT} labels of each, {len(seeds)} draws; gain on fine-tuning")
    for name, values in found.items():
        gain = np.array(values) - np.array(found["fine-tuned"])
        print(f"{name:13} {np.mean(values):.3f}  {np.mean(gain):+.3f} +- {np.std(gain) / np.sqrt(len(gain)):.3f}")
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("test accuracy of each draw", figure_of(found)[None], step=0)
    print("\nTo look at the picture: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
