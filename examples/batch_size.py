"""Large batches estimate the gradient well; how much speed does that cost?

On scanned digits the gradient of one sample is off by 6.3 times the length of that of all 1,440, of 8 by 2.2, of 32
by 1.09, of 120 by 0.54, as the noise scale predicts from one pass (6.1, 2.2, 1.07, 0.54). To a training loss of 0.1
single samples take 4,320 updates (3 epochs, 5.7 s), the full batch 62 (62 epochs, 2.5 s); in between, 120 samples
take 72 (6 epochs, 0.23 s). The noise scale grows from 38 to 1,261 in 20 epochs: later, larger batches pay.
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
SAMPLES, GOAL = 1440, 0.1
SIZES = {  # samples, learning rates to choose from, epochs at most
    "online": (1, (0.01, 0.03, 0.1), 10),
    "mini-batch 8": (8, (0.1, 0.3, 1.0), 30),
    "mini-batch 32": (32, (0.3, 1.0, 3.0), 60),
    "mini-batch 120": (120, (0.3, 1.0, 3.0), 120),
    "full batch": (SAMPLES, (0.3, 1.0, 3.0), 400),
}
PART = 120  # The full batch is summed from parts of this size, in the memory that one of them takes.


def make_data():
    """Return scanned digits with pixels in [0, 1], to train and to test."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return (x[:SAMPLES], y[:SAMPLES]), (x[SAMPLES:], y[SAMPLES:])


def make_model(rate, size):
    """Return a small network for SGD, the same every time; it accumulates where the batch is larger than a part."""
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(64, "relu", kernel_initializer="he_normal"), layers.Dense(10)]
    model, count = keras.Sequential([keras.Input((64,)), *parts]), SAMPLES // PART if size == SAMPLES else None
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kk.optimizers.SGD(rate, gradient_accumulation_steps=count), loss, metrics=["accuracy"])
    return model


def errors(model, noise, size, draws):
    """Return the relative error of the gradient of a batch: what the noise scale predicts, and of batches drawn."""
    (x, y), _ = make_data()
    rng, full, found = np.random.default_rng(0), noise.gradient, []
    for _ in range(draws):
        rows = rng.permutation(SAMPLES)[:size]
        with tf.GradientTape() as tape:
            loss = model.compute_loss(y=y[rows], y_pred=model(x[rows]))
        gradient = tape.gradient(loss, model.trainable_variables)
        found.append(sum(np.sum((np.asarray(g) - f) ** 2) for g, f in zip(gradient, full, strict=True)))
    # A sample is drawn once, and nothing is left to chance where all are.
    return noise.relative_error(size) * np.sqrt(1 - size / SAMPLES), np.sqrt(np.mean(found)) / noise.gradient_norm


class Goal(keras.callbacks.Callback):
    """Ends the training when the loss of all training data is below the goal, or cannot be any more."""

    seconds, losses = 0.0, ()

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Look at the loss; that takes no training time."""
        self.seconds += time.perf_counter() - self.start
        (x, y), _ = make_data()
        self.losses = (*self.losses, self.model.evaluate(x, y, batch_size=SAMPLES, verbose=0)[0])
        self.model.stop_training = self.losses[-1] < GOAL or not np.isfinite(self.losses[-1])


def train(size, rate, epochs, folder=None):
    """Return the callback that has the losses and seconds, and the model."""
    ((x, y), _), model, goal = make_data(), make_model(rate, size), Goal()
    arguments = {"batch_size": min(size, PART), "verbose": 0}
    model.optimizer.build(model.trainable_variables)
    before = [(v, v.numpy()) for v in (*model.variables, *model.optimizer.variables)]
    model.fit(x, y, steps_per_epoch=2, **arguments)  # Compiling is no training.
    for variable, value in before:
        variable.assign(value)
    board = [] if folder is None else [keras.callbacks.TensorBoard(folder, write_graph=False)]
    model.fit(x, y, epochs=epochs, callbacks=[goal, *board], **arguments)
    return goal, model


def main():
    """Measure the gradient's error and the way to the goal for each size, with the best of some learning rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one epoch and one rate, to see that it runs")
    smoke = parser.parse_args().smoke
    folder = os.path.join(LOGS, "batch_size", time.strftime("%Y%m%d-%H%M%S"))
    (x, y), (test, answers) = make_data()
    model = make_model(0.1, 1)
    noise = kk.diagnostics.gradient_noise_scale(model, x, y, batch_size=PART)
    noise.write(folder)
    print(f"noise scale at the start {noise.noise_scale:.1f}", end="")
    after = kk.diagnostics.gradient_noise_scale(train(32, 0.1, 1 if smoke else 20)[1], x, y, batch_size=PART)
    after.write(folder, step=20)
    print(f", after 20 epochs {after.noise_scale:.0f}")
    print(f"error of the gradient at the start, predicted and measured; way to a training loss of {GOAL}")
    for name, (size, rates, limit) in SIZES.items():
        rates, limit = (rates[:1], 1) if smoke else (rates, limit)
        predicted, measured = errors(model, noise, size, 3 if smoke else 200)
        runs = {rate: train(size, rate, limit)[0].losses for rate in rates}
        reached = {rate: len(losses) for rate, losses in runs.items() if losses[-1] < GOAL}
        rate = min(reached, key=reached.get) if reached else rates[0]
        goal, trained = train(size, rate, limit, os.path.join(folder, name.replace(" ", "-")))
        epochs, updates = len(goal.losses), int(trained.optimizer.iterations)
        accuracy = trained.evaluate(test, answers, verbose=0)[1]
        way = f"{updates:>7,} updates {epochs:>5,} epochs {goal.seconds:>6.2f} s"
        error = f"{predicted:>7.2f}{measured:>7.2f}"
        print(f"{name:<15}{error}   rate {rate:<5g}{way}   accuracy {accuracy:.1%}", flush=True)
    print("\nTo look at the runs: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
