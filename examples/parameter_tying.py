"""Few labels of a new task: does it help to stay near a model of a similar task?

MEASURED
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

import keras_kicks as kk

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
WEIGHTS = (0.003, 0.01, 0.03, 0.1)
BODY = ["hidden", "features"]
FEW = 15  # Labels of the new task to train on, and as many to choose a weight by.


def make_data(seed):
    """Return digits 0 to 4 to start from; of 5 to 9 a few to train on, a few to choose by, and the rest to test on."""
    x, y = load_digits(return_X_y=True)
    x, order = (x / 16).astype("float32"), np.random.default_rng(seed).permutation(len(y))
    x, y = x[order], y[order]
    old, new = (x[y < 5], y[y < 5]), (x[y >= 5], y[y >= 5] - 5)
    rows = np.concatenate([np.flatnonzero(new[1] == digit)[:6] for digit in range(5)]).reshape(5, 6)
    train, choice = rows[:, :3].ravel(), rows[:, 3:].ravel()
    test = np.setdiff1d(np.arange(len(new[1])), rows)
    return old, [(new[0][part], new[1][part]) for part in (train, choice, test)]


def make_model(seed):
    """Return a small network; its last layer is the task's own."""
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(64, "relu", name="hidden"), layers.Dense(32, "relu", name="features")]
    return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(5, name="classes")])


def fit(model, x, y, steps, batch_size=FEW):
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


def from_scratch(seed, start, old, train, weight, steps):
    """Train on the few labels alone."""
    model = make_model(seed + 100)
    fit(model, *train, steps)
    return model


def begun(seed, start):
    """Return a model whose body is that of the other task."""
    model = make_model(seed + 100)
    for name in BODY:
        model.get_layer(name).set_weights(start.get_layer(name).get_weights())
    return model


def fine_tuned(seed, start, old, train, weight, steps):
    """Begin with the weights of the other task."""
    model = begun(seed, start)
    fit(model, *train, steps)
    return model


def l2_sp(seed, start, old, train, weight, steps):
    """Begin there, and stay near."""
    model = begun(seed, start)
    tying = kk.regularizers.ParameterTying(start, weight, squared=True, paths=BODY)
    fit(kk.models.TiedModel(model, tying), *train, steps)
    return model


def two_way(seed, start, old, train, weight, steps):
    """Train both tasks at once, from scratch, with the few labels of the new one again and again."""
    model, other = make_model(seed + 100), make_model(seed + 200)
    tying = kk.regularizers.ParameterTying(other, weight, squared=True, mode="two-way", paths=BODY)
    again = np.resize(np.arange(FEW), len(old[1]))
    x, y = [train[0][again], old[0]], [train[1][again], old[1]]
    fit(kk.models.TiedModel(model, tying), x, y, steps, batch_size=64)
    return model


METHODS = {"from scratch": from_scratch, "fine-tuned": fine_tuned, "L2-SP": l2_sp, "two-way": two_way}


def main():
    """Compare the methods over several draws of the few labels; the weight is chosen on labels that are held out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one draw and two steps, to see that it runs")
    smoke = parser.parse_args().smoke
    seeds, steps = (range(1), 2) if smoke else (range(10), 300)
    folder, found = (
        os.path.join(LOGS, "parameter_tying", time.strftime("%Y%m%d-%H%M%S")),
        {name: [] for name in METHODS},
    )
    for seed in seeds:
        old, (train, choice, test) = make_data(seed)
        start = make_model(seed)
        fit(start, *old, steps, batch_size=64)
        for name, method in METHODS.items():
            weights = WEIGHTS[:1] if smoke or name in ("from scratch", "fine-tuned") else WEIGHTS
            models = {weight: method(seed, start, old, train, weight, steps) for weight in weights}
            best = max(models, key=lambda weight, models=models: accuracy(models[weight], *choice))
            found[name].append(accuracy(models[best], *test))
            with tf.summary.create_file_writer(os.path.join(folder, name.replace(" ", "-"))).as_default():
                tf.summary.scalar("test accuracy", found[name][-1], step=seed)
    print(f"test accuracy on digits 5 to 9 with {FEW} labels, {len(seeds)} draws, and against fine-tuning draw by draw")
    for name, values in found.items():
        gain = np.array(values) - np.array(found["fine-tuned"])
        print(f"{name:13} {np.mean(values):.3f}  {np.mean(gain):+.3f} +- {np.std(gain) / np.sqrt(len(gain)):.3f}")
    print(f"tensorboard --logdir {folder}")


if __name__ == "__main__":
    main()
