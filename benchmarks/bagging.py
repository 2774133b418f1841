"""How long do eight networks take, trained at once by Bagging and one after the other?"""

import concurrent.futures
import multiprocessing
import time

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result
from keras_kicks.models import Bagging, KerasClassifier

OURS, UNROLLED, LOOP, WRAPPED = (
    "Bagging",
    "Bagging(stacked=False)",
    "plain Keras, one by one",
    "scikit-learn, Keras wrapper",
)
WRAPPED_OURS = "scikit-learn, KerasClassifier"
MEMBERS, FEATURES, CLASSES, SAMPLES, EPOCHS, BATCH = 8, 20, 3, 2000, 20, 32
LOSS = "sparse_categorical_crossentropy"


def network(jit_compile):
    """Return a small network that is compiled."""
    dense = [keras.layers.Dense(32, "relu"), keras.layers.Dense(32, "relu"), keras.layers.Dense(CLASSES, "softmax")]
    model = keras.Sequential([keras.Input((FEATURES,)), *dense])
    model.compile("adam", LOSS, jit_compile=jit_compile)
    return model


def make_data(smoke):
    """Return classes of points by a random network."""
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(200 if smoke else SAMPLES, FEATURES)).astype("float32")
    return x, np.argmax(np.tanh(x @ rng.normal(size=(FEATURES, 8))) @ rng.normal(size=(8, CLASSES)), axis=1)


def contestants(x, y, epochs, jit_compile):
    """Return functions that build and fit eight networks, each on a bootstrap sample, and return their predictions."""
    from sklearn.ensemble import BaggingClassifier

    def bagging(stacked):
        model = Bagging(lambda: network(jit_compile), MEMBERS, stacked=stacked, seed=SEED)
        model.compile("adam", LOSS, jit_compile=jit_compile)
        model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
        return model.predict(x[:100], verbose=0)

    def one_by_one():
        rng, models = np.random.default_rng(SEED), []
        for _ in range(MEMBERS):
            counts = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x))
            models.append(network(jit_compile))
            models[-1].fit(x, y, sample_weight=counts, batch_size=BATCH, epochs=epochs, verbose=0)
        return np.mean([model.predict(x[:100], verbose=0) for model in models], axis=0)

    def wrapped(estimator):
        ensemble = BaggingClassifier(estimator, MEMBERS, random_state=SEED)
        return ensemble.fit(x, y).predict(x[:100])

    def wrapped_by_keras():
        # A clone of this wrapper loses its options for fit: the model is told them instead.
        def make(X, y):
            model = network(jit_compile)
            model.compile("adam", "categorical_crossentropy", jit_compile=jit_compile)
            fit = model.fit
            model.fit = lambda x, y, **_: fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
            return model

        keras.utils.disable_interactive_logging()
        return wrapped(keras.wrappers.SKLearnClassifier(make))

    def wrapped_by_us():
        return wrapped(KerasClassifier(lambda shape, classes: network(jit_compile), epochs=epochs, batch_size=BATCH))

    return {
        OURS: lambda: bagging(None),
        UNROLLED: lambda: bagging(False),
        LOOP: one_by_one,
        WRAPPED: wrapped_by_keras,
        WRAPPED_OURS: wrapped_by_us,
    }


def one_run(name, turn, smoke, jit_compile):
    """Return the milliseconds of a contestant, with what it takes to make the graphs."""
    x, y = make_data(smoke)
    function = contestants(x, y, 1 if smoke else EPOCHS, jit_compile)[name]
    network(jit_compile).fit(x, y, verbose=0)  # What a process does once.
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED + turn)
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def one_round(turn, smoke, jit_compile):
    """Return the milliseconds of each contestant."""
    if smoke:
        return {name: one_run(name, turn, smoke, jit_compile) for name in (OURS, UNROLLED, LOOP, WRAPPED, WRAPPED_OURS)}
    names, times = [OURS, UNROLLED, LOOP, WRAPPED, WRAPPED_OURS], {}
    for name in names[turn:] + names[:turn]:
        # A process each: XLA keeps what it compiles.
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            times[name] = process.submit(one_run, name, turn, smoke, jit_compile).result()
    return times


def run(smoke=False):
    """Time whole fits."""
    samples, epochs, results = len(make_data(smoke)[0]), 1 if smoke else EPOCHS, []
    for jit_compile in (False,) if smoke else (False, True):
        rounds = [one_round(turn, smoke, jit_compile) for turn in range(1 if smoke else 3)]
        times = {name: [found[name] for found in rounds] for name in rounds[0]}
        kind = "compiled by XLA" if jit_compile else "as graphs"
        title = f"Fit of {MEMBERS} networks of 20-32-32-3 units to {samples} samples, {epochs} epochs, {kind}"
        # Three times faster, and one and a half.
        ratios = [Ratio(OURS, LOOP, 1 / 3), Ratio(OURS, WRAPPED, 1 / 1.5), Ratio(OURS, UNROLLED)]
        results.append(Result(title, "ms", times, [*ratios, Ratio(OURS, WRAPPED_OURS)]))
    return results
