"""Does a network that follows the brackets compute what one that reads from left to right cannot?

Yes. On ListOps (Nangia and Bowman 2018, arXiv:1804.06028) with the published trees, a Tree-LSTM of 64 units finds the
value of 99.0 % of 2,000 expressions that it has not seen, after 8 epochs of 80,000; in the course of them 64.2, 83.6,
92.4, 96.6, 97.9, 98.5, 99.0 and 99.0 %. An LSTM over the same tokens ends at 60.5 %, and guessing at 11.3 %. (A
Tree-LSTM of 128 units was published near 98.7 %, on 90,000 longer expressions.)
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

import keras_kicks as kk
from keras_kicks.datasets import LIST_OPS_TOKENS, TreeBatches, list_ops, list_ops_sequence, list_ops_tree

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
BATCH, MAX_TOKENS, SYMBOLS = 64, 60, len(LIST_OPS_TOKENS)


def make_data(samples, tests):
    """Draw expressions and their values, to train on and, others, to test on."""
    train = list_ops(samples, seed=0, max_tokens=MAX_TOKENS)
    return train, list_ops(tests, seed=1, max_tokens=MAX_TOKENS, exclude=train[0])


def sequences(expressions):
    """Return the tokens of expressions, with 0 for steps that do not count."""
    rows = np.zeros((len(expressions), MAX_TOKENS), "int32")
    for row, expression in zip(rows, expressions, strict=True):
        tokens = list_ops_sequence(expression)
        row[: len(tokens)] = tokens
    return rows


def trees(expressions):
    """Return their published trees, whose leaves are the tokens."""
    return [list_ops_tree(expression) for expression in expressions]


def make_tree_model(units):
    """Return a network over the trees of expressions."""
    tokens, topology = keras.Input((None,), dtype="int32"), keras.Input((None, 3), dtype="int32")
    root = kk.layers.NaryTreeLSTM(units, arity=2)(layers.Embedding(SYMBOLS, units)(tokens), topology)
    return keras.Model([tokens, topology], layers.Dense(10)(root))


def make_sequence_model(units):
    """Return a network over their tokens, from left to right."""
    read = layers.LSTM(units)
    embedding = layers.Embedding(SYMBOLS, units, mask_zero=True)
    return keras.Sequential([keras.Input((MAX_TOKENS,), dtype="int32"), embedding, read, layers.Dense(10)])


def train(name, model, data, steps, epochs, folder):
    """Train a network and print its accuracy on the other expressions after each epoch."""
    (x, y), test = data
    schedule = keras.optimizers.schedules.CosineDecay(6e-3, steps * epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), loss, metrics=["accuracy"])
    board = kk.callbacks.TensorBoard(os.path.join(folder, name.replace(" ", "-")))
    options = {} if y is None else {"batch_size": BATCH}
    start = time.time()
    history = model.fit(x, y, epochs=epochs, validation_data=test, verbose=0, callbacks=[board], **options).history
    trend = "".join(f"{value:>8.1%}" for value in history["val_accuracy"])
    print(f"{name:<14}{model.count_params():>11,}{time.time() - start:>7.0f} s {trend}", flush=True)


def main():
    """Train both networks on the same expressions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few expressions, to see that it runs")
    smoke = parser.parse_args().smoke
    samples, tests, units, epochs = (128, 64, 8, 1) if smoke else (80_000, 2_000, 64, 8)
    (expressions, values), (tests, test_values) = make_data(samples, tests)
    folder = os.path.join(LOGS, "list_ops", time.strftime("%Y%m%d-%H%M%S"))
    share = np.bincount(values).max() / len(values)
    print(
        f"{samples:,} expressions of up to {MAX_TOKENS} tokens; the most frequent value would be right for {share:.1%}"
    )
    print("network        parameters     time  accuracy on others, after each epoch")
    batches = TreeBatches(trees(expressions), values, BATCH, seed=0)
    test = TreeBatches(trees(tests), test_values, BATCH, shuffle=False)
    keras.utils.set_random_seed(0)
    train("Tree-LSTM", make_tree_model(units), ((batches, None), test), len(batches), epochs, folder)
    keras.utils.set_random_seed(0)
    rows = (sequences(expressions), values), (sequences(tests), test_values)
    train("sequence LSTM", make_sequence_model(units), rows, -(-len(values) // BATCH), epochs, folder)


if __name__ == "__main__":
    main()
