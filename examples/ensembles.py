"""What does an ensemble add to one network?

A bag of 25 networks errs less than one where networks vary with their samples: of 300 digits 4.3 % of new ones are
wrong in place of 4.8 % (mean of 25 networks that saw all), and the squared error on diabetes is 0.62 in place of 0.79.
On Friedman #1 it is 0.22 for both: a network learns less from the 63 % of 200 samples that are in its bootstrap. The
same number of networks without a bootstrap, which differ by their first weights alone, come to 4.3 %, 0.67 and 0.17.
Out of bag, without a new sample, one would have said 3.7 %, 0.60 and 0.23.
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
from sklearn.datasets import load_diabetes, load_digits, make_friedman1

import keras_kicks as kk

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
MEMBERS = 25


def make_data(name):
    """Return samples to train on and to test on; targets have mean 0 and variance 1."""
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        x, y = (x[order] / 16).astype("float32"), y[order]
        return (x[:300], y[:300]), (x[300:], y[300:])  # few, so that they can be learned by heart
    x, y = load_diabetes(return_X_y=True) if name == "diabetes" else make_friedman1(1200, noise=1.0, random_state=0)
    x, cut = (x * 20, 300) if name == "diabetes" else (x, 200)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype("float32"), y[order].astype("float32")
    y = (y - y[:cut].mean()) / y[:cut].std()
    return (x[:cut], y[:cut, None]), (x[cut:], y[cut:, None])


def make_member(name, shape):
    """Return a network that is large for its data: what it learns varies with the sample."""
    head = layers.Dense(10, "softmax") if name == "digits" else layers.Dense(1)
    return keras.Sequential([keras.Input(shape), layers.Dense(64, "relu"), layers.Dense(64, "relu"), head])


def compiled(model, name):
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy" if name == "digits" else "mse")
    return model


def error(name, predictions, y):
    """Return the share of wrong classes, or the mean squared error, of samples that have a prediction."""
    there = np.isfinite(predictions).all(axis=-1)
    predictions, y = predictions[there], y[there]
    return np.mean(predictions.argmax(axis=-1) != y) if name == "digits" else np.mean((predictions - y) ** 2)


def out_of_bag(each, unseen):
    """Return the mean over the members that did not see a sample; NaN where there is none."""
    with np.errstate(invalid="ignore"):
        return np.einsum("mn,mnc->nc", unseen, each) / unseen.sum(axis=0)[:, None]


def figure_of(curves, names):
    """Return a picture of errors over the number of members."""
    figure = Figure(figsize=(4 * len(names), 3.6), dpi=100, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, values in curves[name].items():
            axes.plot(range(1, len(values) + 1), values, ":" if label.startswith("one") else "-", label=label)
        axes.set(
            title=name, xlabel="members", ylabel="wrong" if name == "digits" else "mean squared error", ylim=(0, None)
        )
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return tf.io.decode_png(file.getvalue(), channels=3)


def main():
    """Train one network and a bag of them on each data set; print and draw their errors on new samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two members, one epoch, to see that it runs")
    smoke = parser.parse_args().smoke
    members, epochs, names = (2, 1, ["diabetes"]) if smoke else (MEMBERS, 100, ["digits", "diabetes", "Friedman #1"])
    folder, curves = os.path.join(LOGS, "ensembles", time.strftime("%Y%m%d-%H%M%S")), {}
    print("error on new samples   plain Keras   its mean   bagged  out of bag  deep ensemble")
    for name in names:
        keras.utils.set_random_seed(0)
        (x, y), (test, answers) = make_data(name)
        plain = compiled(make_member(name, x.shape[1:]), name)
        plain.fit(x, y, epochs=epochs, verbose=0)
        single = error(name, plain.predict(test, verbose=0), answers)
        found = {}
        for bootstrap in (True, False):
            make = lambda name=name, shape=x.shape[1:]: make_member(name, shape)  # noqa: E731
            bag = compiled(kk.models.Bagging(make, members, bootstrap=bootstrap, seed=0), name)
            bag.fit(x, y, epochs=epochs, verbose=0)
            found[bootstrap] = bag, bag.predict_members(test)
        (bag, each), known = found[True], found[True][0].predict_members(x)
        unseen, sizes = bag.bootstrap_counts().T == 0, range(1, members + 1)
        curves[name] = {
            "one network, mean of all": [np.mean([error(name, one, answers) for one in found[False][1]])] * members,
            "bagged": [error(name, each[:m].mean(axis=0), answers) for m in sizes],
            "bagged, out of bag": [error(name, out_of_bag(known[:m], unseen[:m]), y) for m in sizes],
            "deep ensemble": [error(name, found[False][1][:m].mean(axis=0), answers) for m in sizes],
        }
        columns = zip((12, 9, 12, 15), curves[name].values(), strict=True)
        print(f"{name:<22}{single:>12.3f}" + "".join(f"{c[-1]:>{width}.3f}" for width, c in columns), flush=True)
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("error over the number of members", figure_of(curves, names)[None], step=0)
    print("\nTo look at the picture: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
