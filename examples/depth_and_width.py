"""With as many weights, is it better to be deep or to be wide?

To be exact, deep: with 6 depth + 1 weights, `sawtooth_network` folds 2^(depth - 1) teeth exactly, 32 with 37; one layer
of as many weights has 12 straight pieces for the 64 it takes, and from 4 teeth on is off by 0.67 and more. To be
trained, it does not matter here: with some 240 weights, Adam from three starts comes as near to 2 teeth with one layer
(0.0008 at best) as with four (0.0004; with eight 0.01), and of 8 teeth misses at least one with any (0.5 to 0.6).
What is cheap to represent need not be found.
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
DEPTHS = (1, 2, 3, 4, 5, 6)
SEEDS, STEPS = 3, 6000
# Units of the hidden layers: 226 to 241 weights, with one input and one output.
SHAPES = {"1 layer of 80": [80], "2 layers of 13, 14": [13, 14], "4 layers of 8": [8] * 4, "8 layers of 5": [5] * 8}


def teeth(x, depth):
    """Return 2^(depth - 1) teeth in [0, 1]: what `sawtooth_network` folds."""
    return 1 - np.abs(2 * (np.asarray(x, "float64") * 2 ** (depth - 1) % 1) - 1)


def trained(units, depth, steps, seed):
    """Return a ReLU network that is trained by Adam on all points at once."""
    keras.utils.set_random_seed(seed)
    x = np.linspace(0, 1, 1025)[:, None]
    hidden = [layers.Dense(n, "relu", True, "he_uniform", keras.initializers.RandomUniform(-1, 1)) for n in units]
    model = keras.Sequential([keras.Input((1,)), *hidden, layers.Dense(1)])
    rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
    model.compile(keras.optimizers.Adam(rate), "mse", steps_per_execution=min(100, steps))
    data = tf.data.Dataset.from_tensors((x, teeth(x, depth))).cache().repeat(steps)
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


def main():
    """Measure the largest error on teeth, of built networks and of trained ones with as many weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that it runs")
    smoke = parser.parse_args().smoke
    seeds, steps = (1, 3) if smoke else (SEEDS, STEPS)

    def error(model, depth):
        return kk.diagnostics.sup_error(model, lambda x: teeth(x, depth), 0, 1).value

    print("built   teeth   weights   largest error: folded by depth, straight lines of one layer with as many weights")
    for depth in DEPTHS:
        folds = kk.models.sawtooth_network(depth)
        lines = kk.models.linear_interpolator(lambda x, depth=depth: teeth(x, depth), 0, 1, 2 * depth)
        row = f"{folds.count_params():>10}{error(folds, depth):>12.2g}{error(lines, depth):>9.2g}"
        print(f"{2 ** (depth - 1):>13}{row}", flush=True)
    models = {}
    print(f"trained, largest error of {seeds} starts in order")
    for count in (2, 8):
        depth = count.bit_length()
        for name, units in SHAPES.items():
            runs = [trained(units, depth, steps, seed) for seed in range(seeds)]
            errors = sorted((error(model, depth), i) for i, model in enumerate(runs))
            models[f"{count} teeth, {name}"] = runs[errors[0][1]]
            row = "".join(f"{value:>8.2g}" for value, _ in errors)
            print(f"{count} teeth, {name:<19}{runs[0].count_params():>5} weights{row}", flush=True)

    def draw_teeth(axes):
        x = np.linspace(0, 1, 1025)
        axes.plot(x, teeth(x, 4), color="black", linestyle="--", label="target")
        for name in list(models)[-len(SHAPES) :]:
            axes.plot(x, models[name].predict(x[:, None], verbose=0)[:, 0], label=f"{name}, best start")

    folder = os.path.join(LOGS, "depth_and_width", time.strftime("%Y%m%d-%H%M%S"))
    with tf.summary.create_file_writer(folder).as_default():
        tf.summary.image("depth and width", drawn(draw_teeth, xlabel="x")[None], step=0)
    print("\nTo look at the picture: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
