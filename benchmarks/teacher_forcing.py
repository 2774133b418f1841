"""What does a train step of a decoder cost on known labels, and what on its own predictions?"""

import keras
import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, tensorflow_step
from keras_kicks import layers

PARALLEL, MIXED, KERAS = "labels", "labels and own predictions", "Keras's embedding, LSTM and Dense"
OUTPUT_RECURRENT = "output-recurrent, labels"


def run(smoke=False):
    """Time a step of a decoder of one-layer LSTM or Dense cells, with a context, on labels."""
    batch, steps, vocabulary, units, rounds = (4, 5, 7, 8, 3) if smoke else (64, 100, 64, 256, 20)
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, vocabulary, size=(batch, steps)).astype("int32")
    title = f"Decoder of {vocabulary} tokens, {units} units, on {labels.shape}"
    states = [rng.normal(size=(batch, units)).astype("float32") for _ in range(2)]
    context = rng.normal(size=(batch, units)).astype("float32")
    for jit in (False, True):
        options = {"vocabulary_size": vocabulary, "embedding_dim": units}
        taught = _built(layers.TeacherForcingDecoder(layers.LSTMCell(units), **options))
        mixed = layers.TeacherForcingDecoder(
            layers.LSTMCell(units), **options, scheduled_sampling="argmax", teacher_forcing_ratio=0.5, seed=SEED
        )
        output = _built(layers.TeacherForcingDecoder(keras.layers.Dense(units, "tanh"), **options), context.shape)
        contestants = {
            PARALLEL: _step(taught, labels, states, jit),
            KERAS: _keras_step(taught, labels, states, jit),
            MIXED: _step(_built(mixed), labels, states, jit),
            OUTPUT_RECURRENT: tensorflow_step(
                lambda x, y, layer=output: layer(x, y, training=True),
                output.trainable_variables,
                [context, labels],
                jit,
            ),
        }
        expect_equal(contestants, PARALLEL, KERAS, gradients=False)
        ratios = [Ratio(PARALLEL, KERAS), Ratio(MIXED, PARALLEL), Ratio(OUTPUT_RECURRENT, PARALLEL)]
        yield Result(f"{title}, {labelled(jit)}", "ms", race(contestants, rounds), ratios)


def _built(decoder, inputs_shape=None):
    keras.utils.set_random_seed(SEED)
    decoder.build(inputs_shape=inputs_shape)
    return decoder


def _step(decoder, labels, states, jit):
    def call(labels, *states):
        return decoder(labels=labels, initial_state=list(states), training=True)

    return tensorflow_step(call, decoder.trainable_variables, [labels, *states], jit)


def _keras_step(decoder, labels, states, jit):
    """The same step of Keras's layers, with the same weights; labels are shifted here."""
    units = decoder.cell.units
    embedding = keras.layers.Embedding(decoder.symbols, units)
    recurrent = keras.layers.LSTM(units, return_sequences=True)
    dense = keras.layers.Dense(decoder.vocabulary_size)
    parts = [(embedding, decoder.embedding), (recurrent, decoder.cell), (dense, decoder.projection)]
    shapes = [(None, None), (None, None, units), (None, None, units)]
    weights = {}
    for (part, ours), shape in zip(parts, shapes, strict=True):
        part.build(shape)
        part.set_weights(ours.get_weights())
        weights.update({id(v): w for v, w in zip(ours.trainable_variables, part.trainable_variables, strict=True)})

    def call(labels, *states):
        first = keras.ops.full_like(labels[:, :1], decoder.vocabulary_size)
        fed = keras.ops.concatenate([first, labels[:, :-1]], axis=1)
        return dense(recurrent(embedding(fed), initial_state=list(states), training=True))

    return tensorflow_step(call, [weights[id(v)] for v in decoder.trainable_variables], [labels, *states], jit)
