"""How far back must the gradient go for a network to write?

In eight epochs, not far: an LSTM of 192 units, with 832 updates for every k and the state flowing on, expects the
next character of unseen help texts of Python with 2.310 bits if the gradient goes back k = 1 step, 2.366 for 5, 2.478
for 25 and 2.499 for 100, which is all of a batch; by guessing it would be 6.700 (one seed).
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_kicks as kk
from keras_kicks.datasets import characters, streams

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
STREAMS = 32


def make_data(steps, limit):
    """Return the text, and batches of its two parts that follow each other."""
    text = characters()
    return text, streams(text.train[:limit], STREAMS, steps), streams(text.test[:limit], STREAMS, steps)


def make_model(text, units):
    """Return a network from characters to logits of the next ones."""
    size = len(text.vocabulary)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(size, 32),
            kk.layers.LSTM(units, return_sequences=True),
            layers.Dense(size),
        ]
    )


def write(model, text, length, start="The "):
    """Let a model go on with a text, a character at a time drawn from what it expects."""
    rng, window = np.random.default_rng(0), 64
    index = {character: i for i, character in enumerate(text.vocabulary)}
    ids = [index[character] for character in start]
    for _ in range(length):
        recent = np.array([ids[-window:]])
        padded = np.pad(recent, ((0, 0), (0, window - recent.shape[1])))
        logits = np.asarray(model(padded, training=False))[0, recent.shape[1] - 1].astype("float64")
        odds = np.exp((logits - logits.max()) / 0.7)
        ids.append(int(rng.choice(len(odds), p=odds / odds.sum())))
    return text.decode(ids)


def train(text, data, test, units, k, epochs, folder):
    """Train with the gradient going back k steps, and one update a batch for every k; return the model and its loss."""
    keras.utils.set_random_seed(0)
    model = kk.models.TruncatedBPTT(make_model(text, units), k, updates="sequence", stateful=True)
    model.compile(
        keras.optimizers.Adam(3e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    board = kk.callbacks.TensorBoard(os.path.join(folder, f"k-{k}"))
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: model.reset_state())
    start = time.time()
    options = {"batch_size": STREAMS, "shuffle": False, "verbose": 0}
    model.fit(*data, epochs=epochs, validation_data=test, callbacks=[begin, board], **options)
    seconds = time.time() - start
    loss, accuracy = model.evaluate(*test, batch_size=STREAMS, verbose=0)
    updates = int(model.optimizer.iterations)
    print(f"{k:>5}{updates:>10,}{loss / np.log(2):>12.3f}{accuracy:>11.1%}{seconds:>9.0f} s", flush=True)
    return model.model, loss


def main():
    """Train with several k and print how they compare, and what the best of them writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few characters, to see that it runs")
    smoke = parser.parse_args().smoke
    steps, units, epochs, limit = (20, 16, 1, 2000) if smoke else (100, 192, 8, None)
    text, data, test = make_data(steps, limit)
    folder = os.path.join(LOGS, "characters", time.strftime("%Y%m%d-%H%M%S"))
    print(f"{len(text.train):,} characters to train on, {len(text.test):,} to test on, {len(text.vocabulary)} kinds")
    uniform = np.log2(len(text.vocabulary))
    print(f"    k   updates  bits/char.   accuracy     time   (by guessing {uniform:.3f} bits)")
    ends = [train(text, data, test, units, k, epochs, folder) for k in ((5, 20) if smoke else (1, 5, 25, 100))]
    best, _ = min(ends, key=lambda end: end[1])
    sample = write(best, text, 20 if smoke else 400)
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.text("what the best one writes", f"```\n{sample}\n```", step=0)
    print(f"\n{sample}")


if __name__ == "__main__":
    main()
