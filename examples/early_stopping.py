"""Which rule stops training best, and what does training anew on all data give?

TODO.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from keras_kicks.callbacks import GL, PQ, UP, EarlyStopping, GeneralizationGap, LowProgress, Patience

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
TRAIN, HELD, WRONG, BATCH = 300, 150, 0.2, 30
RULES = {
    "patience 5": lambda: Patience(5),
    "patience 20": lambda: Patience(20),
    "GL_5": lambda: GL(5),
    "PQ_0.5": lambda: PQ(0.5),
    "UP_3": lambda: UP(3),
    "UP_3, every 5 steps": lambda: UP(3),
    "GL_5 or no progress": lambda: [GL(5), LowProgress(0.1)],
}


def make_data(seed):
    """Return digits to train, to validate and to test; of the first two, a fifth has a wrong label."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    labels = np.where(rng.random(len(y)) < WRONG, rng.integers(0, 10, len(y)), y)
    held = TRAIN + HELD
    return (x[:TRAIN], labels[:TRAIN]), (x[TRAIN:held], labels[TRAIN:held]), (x[held:], y[held:])


def make_model():
    """Return a network with more weights than it needs."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(256, "relu"), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss, metrics=["accuracy"])
    return model


def error(model, data):
    """Return the share of digits that are not recognised."""
    return 1 - model.evaluate(*data, verbose=0)[1]


def train(rules, seed, epochs, name=""):
    """Train until the rules stop it; return the callback, its model, and the errors of that and of a refit."""
    data, held, test = make_data(seed)
    steps = {"check_freq": 5, "validation_data": held} if "steps" in name else {}
    stopping = EarlyStopping(rules, **steps)
    keras.utils.set_random_seed(seed)
    model = make_model()
    model.fit(*data, batch_size=BATCH, epochs=epochs, validation_data=held, verbose=0, callbacks=[stopping])
    every = [np.concatenate(pair) for pair in zip(data, held, strict=True)]
    keras.utils.set_random_seed(seed)
    again = [stopping.refit(make_model, *every, by=by, batch_size=BATCH, verbose=0) for by in ("steps", "epochs")]
    return stopping, error(model, test), *(error(refitted, test) for refitted in again)


def draw(curves, stops):
    """Return a picture of the curves of a long training, with the points where rules stop."""
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss", ylim=(0, 2.5))
    epochs = np.array(curves["epoch"]) + 1
    axes.plot(epochs, curves["train_loss"], color="tab:blue", label="training")
    axes.plot(epochs, curves["val_loss"], color="tab:red", label="validation")
    for i, (name, stopping) in enumerate(stops.items()):
        best, last = stopping.best.passes, stopping.checks[-1].passes
        height = 2.4 - 0.11 * i
        axes.plot([best, last], [height, height], marker="|", color=f"C{i + 2}", label=f"{name}: best, stopped")
    axes.legend(fontsize="x-small", loc="center right")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def main():
    """Train with each rule from several seeds, print what it costs and gives, and draw one training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few epochs of some rules, to see that it runs")
    smoke = parser.parse_args().smoke
    seeds, epochs = (range(1), 3) if smoke else (range(5), 100)
    folder = os.path.join(LOGS, "early_stopping", time.strftime("%Y%m%d-%H%M%S"))
    rules = dict(list(RULES.items())[-3:]) if smoke else RULES
    print(f"{'':<22}{'steps':>7}{'best':>7}   errors: {'best':>7}{'refit, steps':>15}{'refit, epochs':>15}")
    stops = {}
    for name, make in {f"none, {epochs} epochs": lambda: Patience(10**6), **rules}.items():
        rows = [train(make(), seed, epochs, name) for seed in seeds]
        stops[name] = rows[0][0]
        steps, best = (np.mean(v) for v in zip(*((r[0].checks[-1].step, r[0].best.step) for r in rows), strict=True))
        errors = np.mean([row[1:] for row in rows], axis=0)
        print(f"{name:<22}{steps:>7.0f}{best:>7.0f}{errors[0]:>18.1%}{errors[1]:>15.1%}{errors[2]:>15.1%}", flush=True)
    data, held, test = make_data(0)
    gap = GeneralizationGap(data, log_dir=folder)
    keras.utils.set_random_seed(0)
    model = make_model()
    model.fit(*data, batch_size=BATCH, epochs=epochs, validation_data=held, verbose=0, callbacks=[gap])
    print(f"without stopping: error {error(model, test):.1%}; {gap.verdict}. {gap.reason}")
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("where rules stop", draw(gap.history, stops)[None], step=0)
    print("\nTo look at the pictures: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
