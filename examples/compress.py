"""How small does a network get by pruning, clustering and quantization, and what does that cost in accuracy?

README.md has the table that `compare` printed for the distilled student of the quickstart. Run by itself, this script
compresses a CNN with batch normalization that it trains on scikit-learn's digits. Each form starts from the trained
network and is trained on for some epochs, so that the remaining weights make up for what was lost (Han, Mao and Dally
2016, arXiv:1510.00149). Sizes and accuracies are those of .tflite files, run by LiteRT.
"""

import argparse
import itertools
import math
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
from sklearn.model_selection import train_test_split

import keras_kicks.compression as kc

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
SPARSITY, CLUSTERS = 0.8, 16


def make_data():
    """Return (images, labels) to train on and to test on; images of shape (n, 8, 8, 1) in [0, 1]."""
    digits = load_digits()
    images, labels = (digits.images[..., None] / 16).astype("float32"), digits.target
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return (images, labels), (test_images, test_labels)


def make_model():
    """Return a CNN of about 40 thousand parameters."""
    body = []
    for filters in (16, 32):
        body += [layers.Conv2D(filters, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU()]
        body += [layers.MaxPooling2D()]
    head = [layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dense(10)]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, *head])


def forms(model, train, x, steps):
    """Yield the name, the model and the mode of the file of each form; every one is made of its own copy.

    Args:
        model: A trained model.
        train: Function of a model and the name of its form that trains it on.
        x: Inputs to calibrate with.
        steps: Number of steps that `train` takes.
    """

    def copy():
        same = keras.models.clone_model(model)
        same.set_weights(model.get_weights())
        return same

    yield "as trained", model, "float32"
    schedule = kc.PolynomialDecay(0.0, SPARSITY, begin_step=0, end_step=steps // 2, frequency=max(1, steps // 40))
    pruned = kc.prune_low_magnitude(copy(), schedule, scope="global")
    train(pruned, "pruned")
    kc.strip_pruning(pruned)
    yield "pruned", pruned, "float32"
    clustered = kc.cluster_weights(copy(), CLUSTERS)
    train(clustered, "clustered")
    yield "clustered", kc.strip_clustering(clustered), "float32"
    quantized = kc.quantize_model(copy(), calibration_data=x)
    train(quantized, "quantized")
    yield "quantized", quantized, "int8"
    both = kc.quantize_model(pruned, calibration_data=x, preserve_sparsity=True)
    train(both, "pruned-quantized")
    yield "pruned-quantized", both, "int8"


def compare(model, train, x, test, steps, run, others=None):
    """Print a table of all forms of a model, and of others as they are, and draw it for TensorBoard."""
    folder = os.path.join(LOGS, run, time.strftime("%Y%m%d-%H%M%S-compressed"))
    os.makedirs(folder, exist_ok=True)
    rows, weights = [], {}
    plain = ((name, other, "float32") for name, other in (others or {}).items())
    for name, form, mode in itertools.chain(plain, forms(model, train, x, steps)):
        path = os.path.join(folder, f"{name.replace(' ', '-')}.tflite")
        kc.to_tflite(form, path, mode=mode)
        weights[name] = kernels(form)
        parameters = sum(math.prod(w.shape) for w in form.trainable_weights)
        rows.append((name, parameters, parameters - np.sum(weights[name] == 0), kc.evaluate_tflite(path, test)))
    print(f"\n{'form':<18}{'parameters':>11}{'non-zero':>10}{'KB':>7}{'KB gzipped':>12}{'accuracy':>10}{'latency':>13}")
    for name, size, left, file in rows:
        sizes = f"{file.size / 1024:>7.1f}{file.gzipped_size / 1024:>12.1f}"
        print(f"{name:<18}{size:>11,}{left:>10,}{sizes}{file.accuracy:>10.2%}{1e3 * file.latency:>10.1f} us")
    with tf.summary.create_file_writer(folder).as_default(step=0):
        tf.summary.image("size_and_accuracy", size_and_accuracy(rows))
        tf.summary.image("weights", histograms(weights))
        for name, values in weights.items():
            tf.summary.histogram(f"weights/{name}", values)


def kernels(model):
    """Return the weights that a model multiplies with; of a quantized one, as they are rounded."""
    rounded = [w for layer in model.layers for w in getattr(layer, "rounded_weights", dict)().values()]
    plain = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights if len(w.shape) > 1]
    return np.concatenate([np.ravel(w) for w in rounded or plain])


def size_and_accuracy(rows):
    """Return a picture of accuracy against gzipped size."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="KB, gzipped", ylabel="test accuracy")
    for name, _, _, file in rows:
        axes.plot(file.gzipped_size / 1024, file.accuracy, "o", label=name)
    axes.legend()
    return picture(figure)


def histograms(weights):
    """Return a picture of the weights of each form."""
    figure = Figure(figsize=(3 * len(weights), 3), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(weights)), weights.items(), strict=True):
        axes.hist(values, bins=256)
        axes.set(title=f"{name}\n{np.mean(values == 0):.0%} zeros", yscale="log", xlabel="weight")
    return picture(figure)


def picture(figure):
    """Return a figure as an array of shape (1, height, width, 4)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None]


def main():
    """Train a network, and compress it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one epoch each, to see that it runs")
    epochs = 1 if parser.parse_args().smoke else 10
    keras.utils.set_random_seed(0)
    data, test = make_data()

    def train(model, name, rate=1e-3, epochs=epochs):
        print(f"\n{name}")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(*data, batch_size=32, epochs=epochs, verbose=2)

    model = make_model()
    train(model, "as trained", rate=3e-3, epochs=2 * epochs)
    compare(model, train, data[0], test, epochs * -(-len(data[0]) // 32), "compress")
    print("\nTo look at the pictures: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
