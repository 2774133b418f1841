"""What does a round of boosting cost beside a learner that is made, compiled and fitted anew in each?"""

import functools

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import labelled
from keras_kicks.models import Boosting, DecisionStump, KerasClassifier

OURS, PEER = "Boosting", "plain Keras: build, compile, fit, predict"
SKLEARN = "AdaBoostClassifier around KerasClassifier"
EPOCHS, BATCH = 5, 100


def data(samples):
    """Return the problem of two classes of Hastie and others (10.2)."""
    x = np.random.default_rng(SEED).normal(size=(samples, 10)).astype("float32")
    return x, ((x**2).sum(axis=1) > 9.34).astype("int64")


def network():
    """Return a small network for two classes."""
    return keras.Sequential([keras.Input((10,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2, "softmax")])


def compiled(model, jit_compile):
    """Compile a model as all contestants are."""
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", jit_compile=jit_compile)
    return model


def plain(x, y, rounds, jit_compile):
    """Run SAMME as one writes it with Keras alone."""
    w = np.full(len(x), 1 / len(x))
    for _ in range(rounds):
        model = compiled(network(), jit_compile)
        model.fit(x, y, sample_weight=w * len(x), epochs=EPOCHS, batch_size=BATCH, verbose=0)
        wrong = model.predict(x, batch_size=4096, verbose=0).argmax(axis=1) != y
        error = np.clip(w @ wrong, 1e-6, 0.5)
        w = w * np.exp(np.log((1 - error) / error) * wrong)
        w /= w.sum()


def theirs(x, y, rounds, jit_compile):
    """Fit scikit-learn's ensemble; Keras's own wrapper takes no sample weights."""
    from sklearn.ensemble import AdaBoostClassifier

    wrapped = KerasClassifier(lambda *_: compiled(network(), jit_compile), epochs=EPOCHS, batch_size=BATCH)
    AdaBoostClassifier(wrapped, n_estimators=rounds).fit(x, y)


def ours(x, y, rounds, jit_compile, learner=network):
    """Fit ours, compilation included."""
    boosting = compiled(Boosting(learner, rounds, seed=SEED), jit_compile)
    boosting.fit(x, y, epochs=EPOCHS, batch_size=BATCH, verbose=0)


def run(smoke=False):
    """Time whole fits of networks, with compilation, and of stumps."""
    from sklearn.ensemble import AdaBoostClassifier
    from sklearn.tree import DecisionTreeClassifier

    results, (x, y) = [], data(200 if smoke else 2000)
    rounds, times = (2, 2) if smoke else (20, 5)
    for jit_compile in (False,) if smoke else (False, True):
        contestants = {OURS: ours, PEER: plain, SKLEARN: theirs}
        runs = {name: functools.partial(run, x, y, rounds, jit_compile) for name, run in contestants.items()}
        title = f"{rounds} rounds of AdaBoost, MLP, {EPOCHS} epochs of {len(x)} samples, {labelled(jit_compile)}"
        results.append(Result(title, "ms", race(runs, times, warmup=1), [Ratio(OURS, PEER), Ratio(OURS, SKLEARN)]))
    rounds = 5 if smoke else 100
    trees = "AdaBoostClassifier, scikit-learn's trees"

    def stumps():
        Boosting(lambda: DecisionStump(2), rounds, seed=SEED).fit(x, y, verbose=0)

    def their_stumps():
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=rounds).fit(x, y)

    runs = {OURS: stumps, trees: their_stumps}
    title = f"{rounds} rounds of AdaBoost, stumps, {len(x)} samples"
    return [*results, Result(title, "ms", race(runs, times, warmup=1), [Ratio(OURS, trees)])]
