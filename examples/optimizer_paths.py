"""Which ways do the seven optimizers of the notes go?

Of eight learning rates each has its best, for 300 steps. In a valley that is 100 times as steep as it is long,
gradient descent is left 0.011 above the lowest point; momentum, Nesterov and Adam are within 1e-12, AdaGrad is
there. Down the bend of Rosenbrock's function Adam (0.0085), Nesterov (0.011) and momentum (0.034) come far, the
others do not (1.4 to 5). At a saddle, gradient descent and momentum first stop; AdaGrad, RMSProp and Adam, whose
steps are long where gradients are small, turn at once, and the noise of SGD throws it off to the other side. Among
many minima momentum alone comes to rest in the lowest one; SGD and gradient descent with a rate of 1 are thrown
about in it, and four stay where they have begun.
"""

import argparse
import io
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from keras_kicks import optimizers

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
FAR = ((-4.1, 3.3), ((-5, 2), (-2, 5)), 0.0)
SURFACES = {  # function, start, limits of the picture, lowest value
    "valley": (lambda x, y: (x**2 + 100 * y**2) / 2, (-3.0, 0.3), ((-3.5, 1.5), (-0.6, 0.6)), 0.0),
    "Rosenbrock": (lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2, (-1.5, 2.0), ((-2, 2), (-1, 3)), 0.0),
    "saddle": (lambda x, y: x**2 - y**2 + y**4 / 4, (-2.0, 1e-3), ((-2.5, 1), (-2, 2)), -1.0),
    "many minima": (lambda x, y: (x * x + y * y) / 20 + 1 - tf.cos(2 * x) * tf.cos(2 * y), *FAR),
}
NOISE = 1.0  # Standard deviation of what the choice of data adds to the gradient that SGD sees.
OPTIMIZERS = ("GradientDescent", "SGD", "Momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam")
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def path(surface, name, rate, steps):
    """Return the points that an optimizer visits, shape (steps + 1, 2), and the values there."""
    function, start, _, _ = SURFACES[surface]
    point, optimizer = keras.Variable(np.array(start, "float32")), getattr(optimizers, name)(learning_rate=rate)
    optimizer.build([point])

    @tf.function(autograph=False)
    def step(noise):
        with tf.GradientTape() as tape:
            value = function(point.value[0], point.value[1])
        optimizer.apply([tape.gradient(value, point.value) + noise], [point])

    noise = np.random.default_rng(0).normal(size=(steps, 2)).astype("float32") * (NOISE if name == "SGD" else 0.0)
    points = [point.numpy()]
    for row in noise:
        step(tf.constant(row))
        points.append(point.numpy())
    points = np.array(points)
    return points, np.asarray(function(points[:, 0], points[:, 1]))


def best(surface, name, steps, rates):
    """Return the rate, the path and the values of the lowest mean value over the last tenth of the steps."""
    runs = {rate: path(surface, name, rate, steps) for rate in rates}
    end = {rate: np.mean(values[-steps // 10 :]) for rate, (_, values) in runs.items()}
    rate = min(rates, key=lambda rate: end[rate] if np.isfinite(end[rate]) else np.inf)
    return rate, *runs[rate]


def draw(found, steps):
    """Return the paths above, and the loss over the step below, as a PNG."""
    figure = Figure(figsize=(20, 10), dpi=80, layout="constrained")
    panels = figure.subplots(2, len(SURFACES), squeeze=False)
    for (surface, (function, start, limits, low)), above, below in zip(SURFACES.items(), *panels, strict=True):
        x, y = np.meshgrid(*(np.linspace(*limit, 200, dtype="float32") for limit in limits))
        heights = np.asarray(function(x, y)) - low
        above.contour(x, y, np.log10(heights + 1e-3), 15, colors="lightgrey", linewidths=0.8)
        for name, (rate, points, values) in found[surface].items():
            (line,) = above.plot(*points.T, marker=".", markersize=3, linewidth=1, label=name, alpha=0.8)
            label = f"{name}, rate {rate:g}"
            below.plot(np.maximum(values - low, 1e-9), color=line.get_color(), linewidth=1, label=label)
        above.plot(*start, "k*", markersize=10)
        above.set(title=surface, xlim=limits[0], ylim=limits[1])
        below.set(yscale="log", xlabel="step", ylabel="value above the lowest", xlim=(0, steps))
        below.legend(fontsize="x-small")
    panels[0][0].legend(fontsize="x-small", loc="lower right")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def main():
    """Find the best rate of each optimizer on each surface; print where they end, and draw how they went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that it runs")
    steps, rates = (10, RATES[3:4]) if parser.parse_args().smoke else (300, RATES)
    folder = os.path.join(LOGS, "optimizer_paths", time.strftime("%Y%m%d-%H%M%S"))
    found = {surface: {name: best(surface, name, steps, rates) for name in OPTIMIZERS} for surface in SURFACES}
    print(f"value above the lowest after {steps} steps (rate)\n{'':<18}" + "".join(f"{s:>22}" for s in SURFACES))
    for name in OPTIMIZERS:
        cells = [(found[s][name][2][-1] - SURFACES[s][3], found[s][name][0]) for s in SURFACES]
        print(f"{name:<18}" + "".join(f"{f'{value:.2g} ({rate:g})':>22}" for value, rate in cells))
        for surface in SURFACES:
            with tf.summary.create_file_writer(os.path.join(folder, name)).as_default():
                for step, value in enumerate(found[surface][name][2]):
                    tf.summary.scalar(surface, value - SURFACES[surface][3], step=step)
    png = draw(found, steps)
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("paths", tf.io.decode_png(png, channels=3)[None], step=0)
    with open(os.path.join(folder, "paths.png"), "wb") as file:
        file.write(png)
    print(f"\nThe picture: {os.path.relpath(os.path.join(folder, 'paths.png'))}   To look at it all: make tensorboard")


if __name__ == "__main__":
    main()
