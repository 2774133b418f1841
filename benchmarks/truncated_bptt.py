"""Does the memory of truncated backpropagation through time grow with the sequence, and what does cutting cost?"""

import os
import subprocess
import sys

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import fit_step
from keras_kicks import layers
from keras_kicks.models import TruncatedBPTT

BATCH, FEATURES, CUT = 16, 32, 50


def model(units, k1, updates="sequence"):
    """Return a compiled model that goes back `k1` steps, or with 0 through all of them."""
    keras.utils.set_random_seed(SEED)
    recurrent = layers.LSTM(units, return_sequences=True)
    network = keras.Sequential([keras.Input((None, FEATURES)), recurrent, keras.layers.Dense(1)])
    if k1:
        network = TruncatedBPTT(network, k1, updates=updates)
    network.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    return network


def data(steps):
    """Return a batch of sequences and their labels."""
    rng = np.random.default_rng(SEED)
    return tuple(rng.normal(size=(BATCH, steps, width)).astype("float32") for width in (FEATURES, 1))


def run(smoke=False):
    """Measure the peak memory of `fit`, and time a batch."""
    units, short, long = (8, 20, 60) if smoke else (256, 200, 2000)
    cut = 10 if smoke else CUT
    results = []
    if os.path.exists("/proc/self/clear_refs"):
        names = {f"{steps} steps, {kind}": (steps, k) for steps in (short, long) for kind, k in _kinds(cut)}
        peaks = {name: [_peak(units, *setting) for _ in range(1 if smoke else 3)] for name, setting in names.items()}
        ratios = [
            Ratio(f"{long} steps, cut every {cut}", f"{short} steps, cut every {cut}", 1.2),
            Ratio(f"{long} steps, not cut", f"{short} steps, not cut"),
        ]
        title = f"Peak memory of a step of fit beyond its inputs, LSTM({units}), batch {BATCH}"
        results.append(Result(title, "MiB", peaks, ratios))
    x, y = data(long)
    contestants = {}
    for name, k, updates in (("cut, one update", cut, "sequence"), ("cut, updates", cut, "chunk"), ("not cut", 0, "")):
        contestants[name] = _fit(model(units, k, updates), x, y)
    times = race(contestants, 3 if smoke else 10, warmup=1)
    title = f"A batch of {long} steps, cut every {cut}, LSTM({units}), batch {BATCH}, jit off"
    return [*results, Result(title, "ms", times, [Ratio(name, "not cut") for name in list(contestants)[:2]])]


def _kinds(cut):
    return ((f"cut every {cut}", cut), ("not cut", 0))


def _fit(network, x, y):
    return lambda: network.fit(x, y, batch_size=BATCH, verbose=0)


def _peak(units, steps, k1):
    """Return the MiB that `fit` adds to the resident memory of a fresh process, at the highest."""
    command = [sys.executable, "-m", "benchmarks.truncated_bptt", str(units), str(steps), str(k1)]
    # As in the benchmark of label smoothing: what is freed goes back to the system.
    thresholds = {name: str(2**18) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}
    environment = {**os.environ, **thresholds, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, env=environment)
    return float(done.stdout.split()[-1])


def _measure(units, steps, k1):
    network, (x, y) = model(units, k1), data(steps)
    # What `fit` calls for a batch that is in memory: Keras itself copies arrays twice on the way there.
    step = fit_step(network, x, y)
    # The first runs trace and compile.
    for _ in range(2):
        step()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = _high_water()
    for _ in range(3):
        step()
    print((_high_water() - before) / 1024)


def _high_water():
    """Return the highest resident memory so far, in KiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    _measure(*map(int, sys.argv[1:]))
