"""What does a decoder save by knowing what it is fed?"""

import keras
import numpy as np
from keras import ops

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, tensorflow_step
from keras_kicks.layers import LSTMCell
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.ops.scan import scan

OURS, LOOP, KERAS = "labels", "labels, step by step", "labels, Embedding, LSTM, Dense of Keras"
SAMPLED, FREE = "own predictions", "own predictions, step by step"
OUTPUT, OUTPUT_LOOP = "labels, output-recurrent", "labels, output-recurrent, step by step"


def run(smoke=False):
    """Time a step on 64 sequences of 50 of 1,000 tokens, with embeddings of 128 and a cell of 256 units."""
    batch, steps, vocabulary, width, units = (4, 5, 7, 3, 4) if smoke else (64, 50, 1000, 128, 256)
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, vocabulary, (batch, steps)).astype("int32")
    states = [rng.normal(size=(batch, units)).astype("float32") for _ in range(2)]
    taught = decoder(LSTMCell(units), vocabulary, width)
    sampled = decoder(LSTMCell(units), vocabulary, width, scheduled_sampling="argmax", teacher_forcing_ratio=0.0)
    output = decoder(keras.layers.Dense(units, "tanh"), vocabulary, width)
    plain = keras_layers(vocabulary, width, units)
    for weights in (sampled.trainable_variables, plain[1]):
        for weight, value in zip(weights, taught.trainable_variables, strict=True):
            weight.assign(value)
    results = []
    for jit in (False, True):
        contestants = {
            OURS: tensorflow_step(whole(taught), taught.trainable_variables, [labels, *states], jit),
            LOOP: tensorflow_step(by_steps(taught), taught.trainable_variables, [labels, *states], jit),
            KERAS: tensorflow_step(*plain, [labels, *states], jit),
            SAMPLED: tensorflow_step(whole(sampled), sampled.trainable_variables, [labels, *states], jit),
            FREE: tensorflow_step(by_steps(sampled), sampled.trainable_variables, [labels, *states], jit),
            OUTPUT: tensorflow_step(whole(output), output.trainable_variables, [labels], jit),
            OUTPUT_LOOP: tensorflow_step(by_steps(output), output.trainable_variables, [labels], jit),
        }
        comparable = {name: densely(step) for name, step in contestants.items()}
        expect_equal(comparable, OURS, LOOP, KERAS)
        expect_equal(comparable, SAMPLED, FREE)
        expect_equal(comparable, OUTPUT, OUTPUT_LOOP)
        times = race(contestants, 2 if smoke else 20, warmup=2)
        pairs = [(OURS, LOOP), (OURS, KERAS), (SAMPLED, FREE), (SAMPLED, OURS), (OUTPUT, OUTPUT_LOOP), (OUTPUT, OURS)]
        title = f"TeacherForcingDecoder({units} units, {vocabulary} tokens) on ({batch}, {steps}), {labelled(jit)}"
        note = "Step by step: embedding, cell and projection in one loop over the steps, which is differentiated."
        results.append(Result(title, "ms", times, [Ratio(*pair) for pair in pairs], [note]))
    return results


def densely(step):
    """Return a run whose gradients by embeddings are of their shape, not some of their rows."""

    def run():
        y, gradients = step()
        return y, [ops.convert_to_numpy(gradient) for gradient in gradients]

    return run


def decoder(cell, vocabulary, width, **options):
    made = TeacherForcingDecoder(cell, vocabulary, width, start_token=0, **options)
    made.build()
    return made


def whole(decoder):
    """Return the training pass of a decoder, as a function of labels and first states."""
    return lambda labels, *states: decoder(labels=labels, initial_state=list(states) or None, training=True)


def by_steps(decoder):
    """Return the same as one writes it: a loop over steps, in which everything happens."""

    def run(labels, *states):
        first = decoder.first_fed(ops.shape(labels)[0])

        def step(carry, now):
            own, *states = carry
            outputs, states = decoder.step(own if decoder.scheduled_sampling else now[0], tuple(states))
            return (ops.cast(ops.argmax(outputs, axis=-1), "int32"), *states), (outputs,)

        shifted = ops.concatenate([ops.expand_dims(first, 1), labels[:, :-1]], axis=1)
        _, _, (outputs,) = scan(step, (first, *states), (ops.transpose(shifted),), keep_states=False)
        return ops.transpose(outputs, (1, 0, 2))

    return run


def keras_layers(vocabulary, width, units):
    """Return teacher forcing by Keras's layers, and their weights in the order of a decoder's."""
    embedding, dense = keras.layers.Embedding(vocabulary, width), keras.layers.Dense(vocabulary)
    lstm = keras.layers.LSTM(units, return_sequences=True)

    def run(labels, *states):
        shifted = ops.concatenate([ops.zeros_like(labels[:, :1]), labels[:, :-1]], axis=1)
        return dense(lstm(embedding(shifted), initial_state=list(states)))

    run(ops.zeros((1, 1), dtype="int32"), *[ops.zeros((1, units))] * 2)
    return run, [*lstm.trainable_variables, *dense.trainable_variables, *embedding.trainable_variables]
