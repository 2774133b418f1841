"""What do 32 predictions with dropout cost, next to 32 calls of predict?"""

import keras
import numpy as np
from keras import layers

from benchmarks.harness import SEED, Ratio, Result, race
from keras_kicks.layers import DropConnect, RReLU
from keras_kicks.models import monte_carlo_predict

OURS, PEER, LOOP = "monte_carlo_predict", "32 calls of predict", "32 calls in training mode"
TARGET = 0.6


def multilayer(smoke, *first):
    """Return a perceptron with dropout behind each hidden layer, and its inputs."""
    width, inputs = (8, 12) if smoke else (512, 784)
    hidden = [part for _ in range(2) for part in (layers.Dense(width, "relu"), layers.Dropout(0.5))]
    return keras.Sequential([keras.Input((inputs,)), *first, *hidden, layers.Dense(10)]), (inputs,)


def convolutional(smoke):
    """Return a network for images with dropout behind the convolutions."""
    width, size = (4, 8) if smoke else (32, 28)
    convolutions = [layers.Conv2D(width, 3, activation="relu"), layers.Conv2D(2 * width, 3, activation="relu")]
    head = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(4 * width, "relu"), layers.Dropout(0.5)]
    parts = [*convolutions, layers.MaxPooling2D(), *head, layers.Dense(10)]
    return keras.Sequential([keras.Input((size, size, 1)), *parts]), (size, size, 1)


def recurrent(smoke):
    """Return an LSTM with dropout of inputs and states."""
    units, steps = (4, 3) if smoke else (64, 30)
    lstm = layers.LSTM(units, dropout=0.2, recurrent_dropout=0.2)
    return keras.Sequential([keras.Input((steps, 16)), lstm, layers.Dense(1)]), (steps, 16)


def dropconnect(smoke):
    """Return a perceptron with dropped connections: each sample has a kernel of its own."""
    width, inputs = (8, 12) if smoke else (512, 784)
    hidden = [layers.Dense(width), RReLU(), DropConnect(layers.Dense(width, "relu"), 0.5)]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(10)]), (inputs,)


SETTINGS = {
    "a perceptron of 784-512-512-10, dropout behind each hidden layer": (multilayer, 1000),
    "the same, dropout of the inputs too": (lambda smoke: multilayer(smoke, layers.Dropout(0.2)), 1000),
    "a convolutional network for 28 x 28 images, dropout in its head": (convolutional, 256),
    "an LSTM of 64 units, 30 steps, dropout and recurrent dropout": (recurrent, 256),
    "a perceptron of 784-512-512-10, RReLU and DropConnect": (dropconnect, 1000),
}


def run(smoke=False):
    """Time predictions of all rows, in batches of 32 and in one batch."""
    results, samples = [], 3 if smoke else 32
    for name, (make, rows) in SETTINGS.items():
        model, shape = make(smoke)
        rows = 8 if smoke else rows
        x = np.random.default_rng(SEED).normal(size=(rows, *shape)).astype("float32")
        for batch_size in (32, rows):
            contestants = {
                OURS: lambda m=model, x=x, b=batch_size: monte_carlo_predict(m, x, samples, batch_size=b),
                PEER: lambda m=model, x=x, b=batch_size: [m.predict(x, b, verbose=0) for _ in range(samples)],
                LOOP: lambda m=model, x=x: np.stack([m(x, training=True) for _ in range(samples)]).std(axis=0),
            }
            if batch_size < rows:
                del contestants[LOOP]
            times = race(contestants, 3 if smoke else 15, warmup=1)
            ratios = [Ratio(OURS, peer, TARGET if peer == PEER else None) for peer in (PEER, LOOP) if peer in times]
            title = f"{samples} samples of {rows} rows, {name}, batches of {batch_size}"
            results.append(Result(title, "ms", times, ratios))
    return results
