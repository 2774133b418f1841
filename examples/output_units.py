"""What should the last layer return, and what does it cost to get it wrong?

For a wave whose noise grows from left to right, intervals that are to hold 90 % of the targets hold 100 % of those on
the left and 79 % of those on the right with the squared error, which has one deviation for all; 89 and 90 % with a
learned variance (GaussianNLL), 88 and 92 % with learned quantiles (Pinball). A softmax before a loss that takes logits
is no error to Keras: on scanned digits it is right in 91.5 % where OutputHead is in 92.3 %, and its negative
log-likelihood is 0.30 nats instead of 0.26. The head refuses it.
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
QUANTILES = [0.05, 0.5, 0.95]
INTERVAL = 1.6449  # standard deviations to either side that hold 90 % of a Gaussian


def make_waves(samples, seed):
    """Return x in [-1, 1] and a wave whose noise grows from 0.02 to 0.5."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-1, 1, (samples, 1)), axis=0)
    y = np.sin(4 * x) + (0.02 + 0.12 * (x + 1) ** 2) * rng.normal(size=x.shape)
    return x.astype("float32"), y.astype("float32")


def make_digits():
    """Return scanned digits with pixels in [0, 1], to train and to test."""
    x, y = load_digits(return_X_y=True)
    return (x[:1200] / 16, y[:1200]), (x[1200:] / 16, y[1200:])


def make_model(features, *last):
    """Return a small network that ends in some layers."""
    return keras.Sequential([keras.Input((features,)), *(layers.Dense(64, "tanh") for _ in range(2)), *last])


def intervals(epochs, folder):
    """Train on the waves with three last layers; print and draw where they say that 90 % of the targets lie."""
    (x, y), (test, answers) = make_waves(2000, 0), make_waves(4000, 1)
    known = kk.layers.OutputHead("regression", variance=1.0)
    learned = kk.layers.OutputHead("regression")
    rows = {
        "squared error": (known, known.compile_arguments()),
        "GaussianNLL": (learned, learned.compile_arguments()),
        "Pinball": (layers.Dense(3), {"loss": kk.losses.Pinball(QUANTILES)}),
    }
    figure = Figure(figsize=(12, 4), dpi=100, layout="constrained")
    print("90 % intervals               covered: x < 0    x > 0    mean width: x < 0    x > 0")
    for place, (name, (last, arguments)) in enumerate(rows.items()):
        keras.utils.set_random_seed(0)
        model = make_model(1, last)
        model.compile(keras.optimizers.Adam(3e-3), **arguments)
        model.fit(x, y, batch_size=100, epochs=epochs, verbose=0)
        if name == "Pinball":
            low, middle, high = (model.predict(test, verbose=0)[:, [i]] for i in range(3))
        else:
            found = last.predictive_model(model).predict(test, verbose=0)
            middle, spread = found["mean"], found["standard_deviation"]
            if name == "squared error":  # The one deviation that fits all residuals.
                spread = np.full_like(middle, (y - model.predict(x, verbose=0)).std())
            low, high = middle - INTERVAL * spread, middle + INTERVAL * spread
        left, inside = test < 0, (low <= answers) & (answers <= high)
        shares, widths = ([values[part].mean() for part in (left, ~left)] for values in (inside, high - low))
        print(f"{name:<28}{shares[0]:18.1%}{shares[1]:9.1%}{widths[0]:21.2f}{widths[1]:9.2f}")
        axes = figure.add_subplot(1, 3, place + 1, title=name, xlabel="x", ylim=(-2, 2))
        axes.plot(test[::8], answers[::8], ".", markersize=2, color="gray")
        axes.fill_between(test[:, 0], low[:, 0], high[:, 0], alpha=0.3)
        axes.plot(test, middle)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("90 % intervals", tf.io.decode_png(file.getvalue(), channels=3)[None], step=0)


def mistake(epochs):
    """Train on digits with the matched loss, and with a softmax before a loss that takes logits."""
    (x, y), (test, answers) = make_digits()
    print("\ndigits                       accuracy    negative log-likelihood in nats")
    for name in ("OutputHead", "softmax, from_logits=True"):
        keras.utils.set_random_seed(0)
        head = kk.layers.OutputHead("multiclass", 10)
        right = name == "OutputHead"
        model = make_model(64, *([head] if right else [layers.Dense(10, "softmax")]))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", **(head.compile_arguments() if right else {"loss": loss}))
        model.fit(x, y, epochs=epochs, verbose=0)
        outputs = model.predict(test, verbose=0)
        log_p = keras.ops.log_softmax(outputs) if right else np.log(outputs)
        nats = -np.asarray(log_p)[np.arange(len(answers)), answers].mean()
        print(f"{name:<28}{np.mean(outputs.argmax(axis=-1) == answers):>9.1%}{nats:>14.3f}")
    try:
        head.compile_arguments(model=keras.Sequential([keras.Input((64,)), head, layers.Softmax()]))
    except ValueError as error:
        print(f"\n{error}")


def main():
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one epoch each, to see that it runs")
    smoke = parser.parse_args().smoke
    intervals(1 if smoke else 150, os.path.join(LOGS, "output_units", time.strftime("%Y%m%d-%H%M%S")))
    mistake(1 if smoke else 20)
    print("\nTo look at the picture: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
