"""How far down does the gradient reach, with which activation?

To the first of twenty layers with tanh, ReLU, RReLU and Maxout: there the root mean square of dL/dW is 0.8 to 2.5
times that of the twentieth layer. With sigmoid it falls by a factor of 4 in each layer, from 4e-3 to 5e-15: that
network does not learn (9 % of new digits are right after 30 epochs, as by guessing), the others reach 73 to 93 %.
In four sigmoid layers that begin as Glorot and Bengio (2010) say one used to, the last layer's activations sink
from 0.5 to 0.04 while it is trained, as in their figure 2.
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
DEPTH, UNITS, BATCH = 20, 64, 64
ACTIVATIONS = {  # the activation, and how its kernels begin (Glorot and Bengio 2010; He et al. 2015)
    "sigmoid": (lambda: layers.Activation("sigmoid"), "glorot_uniform"),
    "tanh": (lambda: layers.Activation("tanh"), "glorot_uniform"),
    "ReLU": (layers.ReLU, "he_normal"),
    "RReLU": (kk.layers.RReLU, "he_normal"),
    "Maxout": (None, "lecun_normal"),
}
# What Glorot and Bengio call the standard way, for their figures: U(-1 / sqrt(n), 1 / sqrt(n)).
OLD = {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}
STANDARD = {"class_name": "VarianceScaling", "config": OLD}


def make_data():
    """Return scanned digits with pixels in [0, 1], to train and to test."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return (x[:1500], y[:1500]), (x[1500:], y[1500:])


def make_model(name, depth, initializer=None):
    """Return a deep network; its layers are named by their place."""
    activation, own = ACTIVATIONS[name]
    kernel, parts = {"kernel_initializer": initializer or own}, []
    for i in range(1, depth + 1):
        if activation is None:
            parts.append(kk.layers.MaxoutDense(UNITS, 2, name=f"layer_{i}", **kernel))
        else:
            parts += [layers.Dense(UNITS, name=f"layer_{i}", **kernel), activation()]
    return keras.Sequential([keras.Input((64,)), *parts, layers.Dense(10, name="out")], name=name)


def hidden(model, x):
    """Return mean and standard deviation of the activations of each hidden layer."""
    pairs = zip(model.layers, model.layers[1:], strict=False)
    ends = [layer.output for layer, after in pairs if after.name.startswith(("layer_", "out"))]
    return np.array([(np.mean(a), np.std(a)) for a in keras.Model(model.inputs, ends).predict(x, verbose=0)])


def train(model, epochs, folder, rate=0.05, callbacks=()):
    """Train a model by SGD; return the first and the last report of its gradients, and its accuracy."""
    (x, y), (test, answers) = make_data()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    flow, reports = kk.callbacks.GradientFlow(folder, sample_freq=10), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: reports.append(flow.report))
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[flow, keep, *callbacks])
    return reports[0], reports[-1], model.evaluate(test, answers, verbose=0)[1]


def figure_of(curves, title, label):
    """Return a picture of means and standard deviations: {name: array of shape (points, 2)}."""
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=label, ylabel="activation: mean and standard deviation")
    for name, values in curves.items():
        place = np.arange(1, len(values) + 1)
        (line,) = axes.plot(place, values[:, 0], marker=".", label=name)
        low, high = values[:, 0] - values[:, 1], values[:, 0] + values[:, 1]
        axes.fill_between(place, low, high, alpha=0.15, color=line.get_color())
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return tf.io.decode_png(file.getvalue(), channels=3)


def main():
    """Train all networks; print what their gradients are, and draw these and the activations over the depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one epoch of a few layers, to see that it runs")
    depth, epochs = (3, 1) if parser.parse_args().smoke else (DEPTH, 30)
    folder = os.path.join(LOGS, "vanishing_gradient", time.strftime("%Y%m%d-%H%M%S"))
    first, last, before, ((x, _), _) = {}, {}, {}, make_data()
    print(f"{depth} layers: rms of dL/dW in the first and the last of them, first epoch; verdicts, first and last")
    for name in ACTIVATIONS:
        keras.utils.set_random_seed(0)
        model = make_model(name, depth)
        before[name] = hidden(model, x)
        first[name], last[name], accuracy = train(model, epochs, os.path.join(folder, name))
        ends = "".join(f"{first[name][layer].gradient_rms:>10.2g}" for layer in ("layer_1", f"layer_{depth}"))
        verdicts = f"{first[name].verdict:<12}{last[name].verdict:<12}"
        print(f"{name:<10}{ends}   {verdicts}accuracy {accuracy:.1%}", flush=True)
    keras.utils.set_random_seed(0)
    saturating, kept = make_model("sigmoid", 4, STANDARD), []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(hidden(saturating, x)))
    train(saturating, 5 * epochs, None, 0.5, [look])
    over_time = {f"layer {i + 1}": np.array(kept)[:, i] for i in range(4)}
    picture, title = kk.callbacks.gradient_flow_picture, "four sigmoid layers while they are trained"
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("gradient, first epoch", picture(first)[None], step=0)
        tf.summary.image("gradient, last epoch", picture(last)[None], step=0)
        tf.summary.image("activations before training", figure_of(before, "before training", "layer")[None], step=0)
        tf.summary.image("activations of sigmoid layers", figure_of(over_time, title, "epoch")[None], step=0)
    print("\nTo look at the pictures: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
