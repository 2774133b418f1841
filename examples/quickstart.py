"""Does a small network read digits better if a large one teaches it?

It does where scans are scarce: here the student sees a fifth of those that the teacher was trained on (after section 6
of Hinton, Vinyals and Dean 2015, arXiv:1503.02531). README.md has the table that this script printed for the 360
held-out scans of scikit-learn's digits. The student is trained alone and by the teacher, each three times on another
fifth, from the same initial weights and in the same order of scans. Last, the distilled student is pruned, clustered
and quantized, and trained on by the teacher meanwhile: see compress.py.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import compress
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.model_selection import train_test_split

import keras_kicks as kk

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
TEMPERATURE, CLASSES = 4.0, 10


def a_fifth(data, seed):
    """Return a fifth of the data, with as many scans of each digit."""
    images, _, labels, _ = train_test_split(*data, train_size=0.2, stratify=data[1], random_state=seed)
    return images, labels


def convolution(filters):
    """Return a convolution with group normalization and a randomized activation."""
    block = [layers.Conv2D(filters, 3, padding="same", use_bias=False)]
    return [*block, kk.layers.GroupNormalization(filters // 4), kk.layers.RReLU()]


def make_teacher():
    """Return a CNN of about 107 thousand parameters."""
    body = [layers.RandomTranslation(0.1, 0.1, fill_mode="constant"), *convolution(32), *convolution(32)]
    body += [layers.MaxPooling2D(), *convolution(64), *convolution(64), layers.MaxPooling2D(), layers.Flatten()]
    head = [kk.layers.DropConnect(layers.Dense(128, activation="relu"), 0.5), kk.layers.MaxoutDense(32, 2)]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, *head, layers.Dense(CLASSES)], name="teacher")


def make_student():
    """Return a CNN of about 4 thousand parameters."""
    body = [layers.Conv2D(8, 3, strides=2, padding="same"), kk.layers.RReLU(), layers.Flatten()]
    head = [kk.layers.MaxoutDense(16, 2), layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, *head], name="student")


def make_strategy():
    """Return a MirroredStrategy on all GPUs, or on two halves of the CPU."""
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def train(model, data, test, run, rate, batch_size, epochs, **arguments):
    """Train a model on labels, with a learning rate that falls to 0, and log it for TensorBoard."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(data[0]) // batch_size))
    # Not smoothed: smoothing erases what a teacher has to teach (Müller et al. 2019, arXiv:1906.02629).
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    board = kk.callbacks.TensorBoard(os.path.join(LOGS, "quickstart", time.strftime("%Y%m%d-%H%M%S-") + run))
    print(f"\n{run}")
    validation = {"validation_data": test, "validation_batch_size": len(test[0]), "validation_freq": 5}
    model.fit(*data, batch_size=batch_size, epochs=epochs, callbacks=[board], **validation, **arguments)


def probabilities(model, images, temperature=1.0):
    """Return softened class probabilities."""
    return keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(images, verbose=0) / temperature))


def print_table(rows):
    """Print the means of the runs of each model."""
    print(f"\n{'model':<18}{'parameters':>11}{'test accuracy':>15}{'soft-target agreement':>23}")
    for name, runs in rows.items():
        parameters, accuracy, overlap = np.mean(runs, axis=0)
        print(f"{name:<18}{parameters:>11,.0f}{accuracy:>15.2%}{overlap:>23.3f}")
    for name, runs in list(rows.items())[1:]:
        print(f"{name}, by seed: {', '.join(f'{accuracy:.2%}' for _, accuracy, _ in runs)}")
    print(f"Agreement: mean over images of sum_k min(p_k, q_k) with the teacher, both softened by T = {TEMPERATURE:g}.")


def main():
    """Train the three models, compress the last, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one epoch and one seed, to see that it runs")
    smoke = parser.parse_args().smoke
    seeds = [0] if smoke else [0, 1, 2]
    data, test = compress.make_data()
    rows = {}

    def evaluate(name, model):
        accuracy = float((probabilities(model, test[0]).argmax(axis=-1) == test[1]).mean())
        overlap = np.minimum(probabilities(model, test[0], TEMPERATURE), targets).sum(axis=-1).mean()
        rows.setdefault(name, []).append((model.count_params(), accuracy, overlap))

    def distill(student, some, run, **arguments):
        loss = kk.losses.LogitsDistillation(TEMPERATURE)
        distiller = kk.models.Distiller(teacher, student, loss, student_loss_weight=0.1)
        train(distiller, some, test, run, **arguments, teacher_cache="memory")
        return distiller.export_student()

    with make_strategy().scope():
        keras.utils.set_random_seed(0)
        teacher = make_teacher()
        train(teacher, data, test, "teacher", rate=3e-3, batch_size=64, epochs=1 if smoke else 20)
        targets = probabilities(teacher, test[0], TEMPERATURE)
        evaluate("teacher", teacher)
        setting = {"rate": 1e-2, "batch_size": 16, "epochs": 1 if smoke else 20}
        for seed in seeds:
            some = a_fifth(data, seed)
            keras.utils.set_random_seed(seed)
            student = make_student()
            train(student, some, test, f"student-alone-{seed}", **setting)
            evaluate("student alone", student)
            keras.utils.set_random_seed(seed)
            distilled = distill(make_student(), some, f"student-distilled-{seed}", **setting)
            evaluate("student distilled", distilled)
        print_table(rows)

        tuning = {**setting, "rate": 3e-3, "verbose": 0}
        steps = tuning["epochs"] * -(-len(some[0]) // tuning["batch_size"])

        def tune(form, name):
            distill(form, some, f"student-{name}", **tuning)

        compress.compare(distilled, tune, some[0], test, steps, "quickstart", {"teacher": teacher})
    print("\nTo look at the runs: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
