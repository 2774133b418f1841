"""Where does noise help a network that has few images to learn from, and does it know what it does not know?

From 150 digits (five draws) a small CNN learns to read 90.5 ± 0.4 % of new ones; with noise on the pixels or Dropout
92.9 %, with label smoothing 93.4 ± 0.6 %, with DropConnect 91.7 %; moved, turned and stretched images add nothing, as
8 x 8 pixels blur. The negative log-likelihood falls from 0.44 to 0.25 (pixels) ... 0.36, the calibration error from
0.055 to about 0.03; label smoothing's rises to 0.16: less sure than right. 64 samples of Dropout have 0.24 and 0.023.
Where they are wrong they differ more: the median of their mutual information is 0.41, and 0.03 where they are right.
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
SAMPLES, BINS = 150, 10  # Images to train on, bins of the calibration error.
NOISES = ("plain Keras", "input noise", "augmentation", "Dropout", "DropConnect", "label smoothing")
SCORES = ("accuracy on new digits", "negative log-likelihood", "calibration error")


def make_data(seed):
    """Return scanned digits with pixels in [0, 1]: a few to train, others for each seed, and the rest to test."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = (x[order] / 16).astype("float32").reshape(-1, 8, 8, 1), y[order]
    return (x[:SAMPLES], y[:SAMPLES]), (x[SAMPLES:], y[SAMPLES:])


def augmentation(seed):
    """Return Keras's layers that move, turn and stretch images a little."""
    kinds = {layers.RandomTranslation: (0.1, 0.1), layers.RandomRotation: (0.04,), layers.RandomZoom: (0.1,)}
    return [kind(*amounts, fill_mode="constant", seed=seed) for kind, amounts in kinds.items()]


def make_model(name, seed):
    """Return a small convolutional network, the same for each seed but for the noise."""
    keras.utils.set_random_seed(seed)
    first = {"input noise": [kk.layers.VectorNoise(0.2)], "augmentation": augmentation(seed)}.get(name, [])
    hidden = layers.Dense(128, "relu")
    hidden = kk.layers.DropConnect(hidden, 0.5) if name == "DropConnect" else hidden
    head = [layers.Flatten(), hidden, *([layers.Dropout(0.5)] if name == "Dropout" else []), layers.Dense(10)]
    body = [layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(32, 3, activation="relu")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *first, *body, *head])
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", kk.losses.LabelSmoothingCrossentropy(0.1) if name == "label smoothing" else plain)
    return model


def scores(p, y):
    """Return accuracy, negative log-likelihood and expected calibration error of class probabilities."""
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    place = np.ceil(sure * BINS)
    gaps = [abs(np.sum(right[place == b]) - np.sum(sure[place == b])) for b in range(BINS + 1)]
    return np.mean(right), -np.mean(np.log(np.maximum(p[np.arange(len(y)), y], 1e-30))), np.sum(gaps) / len(y)


def draw(found, spread):
    """Return pictures: scores with standard errors; digits and what augmentation makes of them; the spread."""
    bars, grid, box = (Figure(figsize=size, dpi=100, layout="constrained") for size in ((11, 3.4), (8, 4), (4, 4)))
    for i, (axes, title) in enumerate(zip(bars.subplots(1, 3, sharey=True), SCORES, strict=True)):
        values = np.array(list(found.values()))[::-1, :, i].T
        error = values.std(axis=0, ddof=1) / len(values) ** 0.5
        axes.errorbar(values.mean(axis=0), list(found)[::-1], xerr=error, fmt="o", capsize=3)
        axes.set_title(title)
    digits = make_data(0)[0][0][:10]
    changed = [np.array(keras.Sequential(augmentation(seed))(digits, training=True)) for seed in range(4)]
    for axes, image in zip(grid.subplots(5, 10).ravel(), np.concatenate([digits, *changed]), strict=True):
        axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")
    (axes := box.subplots()).set_ylabel("with Dropout, nats (whiskers: 5 and 95 %)")
    axes.boxplot(list(spread.values()), whis=(5, 95), showfliers=False, tick_labels=[f"{k} digits" for k in spread])
    for name, figure in {"noise compared": bars, "augmented digits": grid, "mutual information": box}.items():
        file = io.BytesIO()
        figure.savefig(file, format="png")
        yield name, tf.io.decode_png(file.getvalue(), channels=3)[None]


def main():
    """Train all networks on few digits; print how they do on new ones; draw it, the augmentation and the spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two runs of an epoch, to see that it runs")
    seeds, epochs = (2, 1) if parser.parse_args().smoke else (5, 100)
    found, spread = {}, {"right": [], "wrong": []}
    print(f"{SAMPLES} digits to train, {seeds} times; mean ± standard error of {', '.join(SCORES)}", flush=True)
    for name in NOISES:
        for seed in range(seeds):
            (x, y), (test, answers) = make_data(seed)
            model = make_model(name, seed)
            model.fit(x, y, batch_size=30, epochs=epochs, verbose=0)
            p = np.array(keras.ops.softmax(model.predict(test, batch_size=500, verbose=0)))
            found.setdefault(name, []).append(scores(p, answers))
            if name in ("Dropout", "DropConnect"):
                drawn = kk.models.monte_carlo_predict(model, test, 64, batch_size=500, classes="logits", seed=seed)
                found.setdefault(f"{name}, 64 samples", []).append(scores(drawn.mean, answers))
                for value, right in zip(drawn.mutual_information, drawn.mean.argmax(axis=1) == answers, strict=True):
                    spread["right" if right else "wrong"] += [value] if name == "Dropout" else []
    for row, values in found.items():
        pairs = zip(np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / seeds**0.5, strict=True)
        print(f"{row:<24}" + "".join(f"{mean:>9.3f} ± {error:.3f}" for mean, error in pairs))
    print("median mutual information: " + ", ".join(f"{np.median(v):.4f} where {k}" for k, v in spread.items()))
    with tf.summary.create_file_writer(os.path.join(LOGS, "noise", time.strftime("%Y%m%d-%H%M%S"))).as_default():
        for name, picture in draw(found, spread):
            tf.summary.image(name, picture, step=0)
    print("\nTo look at the pictures: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
