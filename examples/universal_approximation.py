"""How near does a network with one hidden layer come to a function, as it grows wide?

As theory says if it is built, and not as near if it is trained. Steps of sigmoids, set without training, have a largest
error of 1.2 with 4 units and 0.077 with 64 (width^-1.0); straight lines of ReLU 0.74 and 0.0049, near width^-2;
those of two Maxout units with as many pieces in all 1.7 and 0.019. Adam, once from one start, gets further with 4
units (0.14 with sigmoid) and not as far with 64: 0.028 with sigmoid, 0.055 with ReLU, 0.061 with Maxout. Of two
inputs it is 0.059, 0.17 and 0.21 then, where sigmoid with 8 units has 0.057.
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

import keras_kicks as kk

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
WIDTHS, STEPS = (4, 8, 16, 32, 64), 3000


def uniform(limit):
    return keras.initializers.RandomUniform(-limit, limit)


steps_of, lines_of = kk.models.step_approximator, kk.models.linear_interpolator
UNITS = {  # by width, the hidden layer to train, and the network that is built; of Maxout the linear pieces count
    "sigmoid": (lambda n: layers.Dense(n, "sigmoid", True, uniform(9), uniform(9)), lambda n: steps_of(wave, -1, 1, n)),
    "ReLU": (lambda n: layers.Dense(n, "relu", True, uniform(1), uniform(1)), lambda n: lines_of(wave, -1, 1, n)),
    "Maxout": (
        lambda n: kk.layers.MaxoutDense(n // 2, 2, None, True, uniform(1), uniform(1)),
        lambda n: lines_of(wave, -1, 1, n // 2, "maxout"),
    ),
}


def wave(x):
    """Return the target of one input in [-1, 1]."""
    return np.sin(4 * x) + 0.3 * np.cos(9 * x)


def hill(x):
    """Return the target of two inputs."""
    return np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1])


def trained(hidden, function, x, steps):
    """Return a network that is trained by Adam on all points at once."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(x.shape[1:]), hidden, layers.Dense(1)])
    rate = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(keras.optimizers.Adam(rate), "mse", steps_per_execution=min(100, steps))
    data = tf.data.Dataset.from_tensors((x, function(x).reshape(-1, 1))).cache().repeat(steps)
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def drawn(draw, **labels):
    """Return a picture."""
    figure = Figure(figsize=(7, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot(**labels)
    draw(axes)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    FigureCanvasAgg(figure).draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def draw_bumps(axes):
    """Draw nine bumps, which are differences of neighbouring steps, and their sum."""
    model, x = kk.models.step_approximator(wave, -1, 1, 8), np.linspace(-1, 1, 1500)
    steps = np.pad(np.asarray(model.layers[0](x[:, None])), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    output, first = (weight.numpy() for weight in model.layers[1].weights)
    for k, value in enumerate(np.cumsum([*first, *output[:, 0]])):
        axes.fill_between(x, 0, value * (steps[:, k] - steps[:, k + 1]), alpha=0.35, linewidth=0)
    axes.plot(x, model.predict(x[:, None], verbose=0), color="black", label="sum of nine bumps, not trained")
    axes.plot(x, wave(x), color="black", linestyle="--", label="target")


def main():
    """Measure the largest error over the width, of networks that are built and that are trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two widths and a few steps, to see that it runs")
    widths, steps = (WIDTHS[:2], 3) if parser.parse_args().smoke else (WIDTHS, STEPS)
    line, side = np.linspace(-1, 1, 512)[:, None], np.linspace(-1, 1, 24)
    plane, errors = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), {}
    print(f"largest error over the width {widths}, and the power of the width that it falls with")
    for name, (hidden, built) in UNITS.items():
        errors[f"{name}, built"] = {n: kk.diagnostics.sup_error(built(n), wave, -1, 1).value for n in widths}
        for kind, f, x in (("trained", wave, line), ("trained, two inputs", hill, plane)):
            models = {n: trained(hidden(n), f, x, steps) for n in widths}
            ends = [-1] * x.shape[1], [1] * x.shape[1]
            errors[f"{name}, {kind}"] = {n: kk.diagnostics.sup_error(m, f, *ends).value for n, m in models.items()}
    rates = {k: np.polyfit(np.log(widths), np.log(list(v.values())), 1)[0] for k, v in errors.items()}
    for name, found in errors.items():
        print(f"{name:<28}", *(f"{error:>8.2g}" for error in found.values()), f"  {rates[name]:6.2f}", flush=True)

    def draw_errors(axes):
        for i, (name, found) in enumerate(errors.items()):
            label, style = f"{name}: width^{rates[name]:.1f}", ("-", "--", ":")[i % 3]
            axes.loglog(list(found), list(found.values()), style, color=f"C{i // 3}", marker="o", label=label)
        axes.set_xscale("log", base=2)

    folder = os.path.join(LOGS, "universal_approximation", time.strftime("%Y%m%d-%H%M%S"))
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("error over width", drawn(draw_errors, xlabel="width", ylabel="largest error")[None], step=0)
        tf.summary.image("bumps", drawn(draw_bumps, xlabel="x")[None], step=0)
    print("\nTo look at the pictures: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
