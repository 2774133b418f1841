"""What does it cost to watch the gradients of a training?"""

import itertools

import keras

from benchmarks import networks
from benchmarks.harness import Ratio, Result, race
from benchmarks.steps import labelled
from keras_kicks.callbacks import GradientFlow

STEPS = 10
WATCHED, NO_HISTOGRAMS = "a sample in 10 steps", "a sample in 10 steps, no histograms"
BETWEEN, PLAIN = "between two samples", "without the callback"


def watched(model, batches, **arguments):
    """Return a run of 10 steps, with the calls that `fit` makes for each."""
    flow, numbers, plain = GradientFlow(**arguments), itertools.count(), model.train_function
    flow.set_model(model)
    flow.on_train_begin()
    flow.on_epoch_begin(0)

    def run():
        for number in itertools.islice(numbers, STEPS):
            flow.on_train_batch_begin(number)
            function(batches)
            flow.on_train_batch_end(number)

    flow.on_train_batch_begin(next(numbers))
    # All contestants train one model: two that are equal differ by a few percent, as they lie in memory.
    function, model.train_function = model.train_function, plain
    return run


def run(smoke=False):
    """Time ten steps with one sample, and with none."""
    import tensorflow as tf

    results = []
    for name, jit_compile in itertools.product(networks.NAMES, (False, True)):
        model = networks.compiled(keras, networks.make(keras, name, smoke), jit_compile)
        batch = tf.nest.map_structure(tf.constant, networks.batch(name))
        batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
        model.make_train_function()
        plain = model.train_function
        runs = {
            WATCHED: watched(model, batches, sample_freq=STEPS),
            NO_HISTOGRAMS: watched(model, batches, sample_freq=STEPS, histograms=False),
            BETWEEN: watched(model, batches, sample_freq=10**9),
            PLAIN: lambda plain=plain, batches=batches: [plain(batches) for _ in range(STEPS)],
        }
        times = race(runs, 3 if smoke else 100)
        title = f"Ten steps under GradientFlow, {name}, {labelled(jit_compile)}"
        ratios = [Ratio(WATCHED, PLAIN, 1.05), Ratio(NO_HISTOGRAMS, PLAIN), Ratio(BETWEEN, PLAIN, 1.01)]
        results.append(Result(title, "ms", times, ratios))
    return results
