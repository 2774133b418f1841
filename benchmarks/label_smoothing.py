"""Is label smoothing from class ids faster, and smaller, than by a one-hot matrix?"""

import subprocess
import sys

import keras
import numpy as np
from keras import ops

from benchmarks.harness import Result, Target, race
from benchmarks.steps import labelled, tensorflow_step, torch_step
from keras_kicks.losses import LabelSmoothingCrossentropy

OURS, THEIRS = "keras_kicks", "Keras, one-hot"


def functions(classes):
    """Return the losses to compare: functions of logits and class ids."""
    ours = LabelSmoothingCrossentropy(0.1)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    return {
        OURS: lambda logits, ids: ours(ids, logits),
        THEIRS: lambda logits, ids: theirs(ops.one_hot(ids, classes), logits),
    }


def inputs(shape):
    """Return logits and class ids."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32"), rng.integers(0, shape[1], shape[0]).astype("int32")]


def run(smoke=False):
    """Time a step on logits of shape (512, 8192), and measure the memory of one in a process of its own."""
    import torch

    shape = (16, 32) if smoke else (512, 8192)
    logits, ids = inputs(shape)
    losses = functions(shape[1])
    peer = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    values = [float(loss(ops.convert_to_tensor(logits), ops.convert_to_tensor(ids))) for loss in losses.values()]
    values.append(float(peer(torch.tensor(logits), torch.tensor(ids).long())))
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    results = []
    for jit in (False, True):
        contestants = {name: tensorflow_step(loss, [], [logits, ids], jit) for name, loss in losses.items()}
        contestants["torch"] = torch_step(lambda z, y: peer(z, y.long()), [], [logits, ids])
        times = race(contestants, 3 if smoke else 60)
        title = f"LabelSmoothingCrossentropy on class ids, logits {shape}, {labelled(jit)}"
        results.append(Result(title, "ms", times, [Target(OURS, THEIRS, 0.7)]))
    memory = {name: [_peak(name, shape) for _ in range(1 if smoke else 5)] for name in losses}
    memory = {name: [max(value, 1e-3) for value in values] for name, values in memory.items()}
    note = f"Above what the process held before its first step; the logits are {logits.nbytes / 2**20:.0f} MiB."
    return [*results, Result(f"Peak memory of a step, logits {shape}, jit off", "MiB", memory, [], [note])]


def _peak(name, shape):
    """Return the MiB that a fresh process needs for steps, by the high-water mark of its resident memory."""
    command = [sys.executable, "-m", "benchmarks.label_smoothing", name, *map(str, shape)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.split()[-1])


def _measure(name, *shape):
    import resource

    shape = tuple(map(int, shape))
    # A step on few rows first, for what TensorFlow needs by itself.
    tensorflow_step(functions(shape[1])[name], [], inputs((8, shape[1])), False)()
    data = inputs(shape)
    step = tensorflow_step(functions(shape[1])[name], [], data, False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


if __name__ == "__main__":
    _measure(*sys.argv[1:])
