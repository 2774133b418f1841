"""Is label smoothing from class ids faster, and smaller, than by a one-hot matrix?"""

import os
import subprocess
import sys

import keras
import numpy as np
from keras import ops

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, tensorflow_step, torch_step
from keras_kicks.losses import LabelSmoothingCrossentropy

OURS, THEIRS, TORCH = "keras_kicks", "Keras, one-hot", "torch CrossEntropyLoss"


def steps(shape, jit):
    """Return the steps to compare, as functions that make one, on logits of this shape."""
    ours = LabelSmoothingCrossentropy(0.1)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    rng = np.random.default_rng(SEED)
    logits, ids = rng.normal(size=shape).astype("float32"), rng.integers(0, shape[1], shape[0]).astype("int32")

    def of_torch():
        import torch

        peer = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
        return torch_step(peer, [], [logits, ids.astype("int64")])

    return {
        OURS: lambda: tensorflow_step(lambda z, ids: ours(ids, z), [], [logits, ids], jit),
        THEIRS: lambda: tensorflow_step(lambda z, ids: theirs(ops.one_hot(ids, shape[1]), z), [], [logits, ids], jit),
        TORCH: of_torch,
    }


def run(smoke=False):
    """Time a step on logits of shape (512, 8192), and measure the memory of one in a process of its own."""
    shape = (16, 32) if smoke else (512, 8192)
    ratios = [Ratio(OURS, THEIRS, 0.7), Ratio(OURS, TORCH)]
    results = []
    for jit in (False, True):
        contestants = {name: make() for name, make in steps(shape, jit).items()}
        expect_equal(contestants, OURS, THEIRS, TORCH)
        times = race(contestants, 3 if smoke else 100)
        title = f"LabelSmoothingCrossentropy of class ids, logits {shape}, {labelled(jit)}"
        results.append(Result(title, "ms", times, ratios))
    if not os.path.exists("/proc/self/clear_refs"):
        return results
    repeats = 1 if smoke else 3
    note = f"The gradient alone is {4 * shape[0] * shape[1] / 2**20:.0f} MiB."
    size = (512, 1024) if smoke else shape
    for jit in (False, True):
        peaks = {name: [_peak(name, size, jit) for _ in range(repeats)] for name in contestants}
        title = f"Peak memory of a step beyond its inputs, logits {shape}, {labelled(jit)}"
        results.append(Result(title, "MiB", peaks, [Ratio(ratio.ours, ratio.peer) for ratio in ratios], [note]))
    return results


def _peak(name, shape, jit):
    """Return the MiB that a step adds to the resident memory of a fresh process, at the highest."""
    command = [sys.executable, "-m", "benchmarks.label_smoothing", name, str(int(jit)), *map(str, shape)]
    # glibc then gives what is freed back to the system, and TensorFlow allocates by glibc and not from a pool that
    # oneDNN has: the step cannot hide in memory that was used before.
    thresholds = {name: str(2**18) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}
    environment = {**os.environ, **thresholds, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=environment)
    return float(done.stdout.split()[-1])


def _measure(name, shape, jit):
    step = steps(shape, jit)[name]()
    # The first runs trace and compile.
    for _ in range(2):
        step()
    # Linux sets the high-water mark to what is resident now. That of getrusage would begin with the parent's.
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = _high_water()
    for _ in range(5):
        step()
    print((_high_water() - before) / 1024)


def _high_water():
    """Return the highest resident memory so far, in KiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    _measure(sys.argv[1], tuple(map(int, sys.argv[3:])), sys.argv[2] == "1")
