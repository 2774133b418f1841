"""Beam search against all sequences there are, against lists in Python, and in models."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.decoder_reference import CELLS, Reference, array, filled, normal, row

from keras_kicks.layers.recurrent.beam_search_decoder import BeamSearchDecoder
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor

BATCH, STEPS, VOCABULARY, FEATURES = 3, 3, 4, 2
END, PAD = 2, 0


def example(name="LSTM", steps=STEPS, **options):
    """Return a decoder with random weights, its reference, and inputs."""
    make, step, sizes = CELLS[name]
    decoder = filled(TeacherForcingDecoder(make(), VOCABULARY, **options), (None, FEATURES))
    return decoder, Reference(decoder, step, sizes), normal(BATCH, steps, FEATURES)


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x - x.max()))) - x.max()


def ways_on(reference, tokens, inputs, counts):
    """Yield how a beginning goes on: tokens and log-probability, that of the new one in the present step."""
    states, fed, log_probs, ended = reference.zeros(), reference.first(), None, False
    for t in range(len(tokens) + 1):
        if counts[t] and not ended:
            logits, after = reference.step(fed, states, inputs[t])
            log_probs = log_softmax(logits)
            if t < len(tokens):
                states, fed = after, tokens[t]
                ended = tokens[t] == reference.decoder.end_token
    t = len(tokens)
    if ended or not counts[t]:
        yield (*tokens, reference.decoder.padding or 0), 0.0
    else:
        for token in range(VOCABULARY):
            yield (*tokens, token), log_probs[token]


def length(reference, tokens, counts):
    """How many tokens count: up to the end, in steps that count."""
    n = 0
    for token, counted in zip(tokens, counts, strict=False):
        n += counted
        if counted and token == reference.decoder.end_token:
            break
    return n


def search(reference, inputs, width, alpha=0.0, counts=None):
    """Beam search of one sample; with a width of all sequences it enumerates them."""
    counts = [True] * len(inputs) if counts is None else counts
    beams = [((), 0.0)]

    def score(beam):
        return beam[1] / ((5 + length(reference, beam[0], counts)) / 6) ** alpha

    for _ in range(len(inputs)):
        beams = [
            (new, total + more) for tokens, total in beams for new, more in ways_on(reference, tokens, inputs, counts)
        ]
        beams = sorted(beams, key=score, reverse=True)[:width]
    return [beam[0] for beam in beams], [score(beam) for beam in beams]


def expect_beams(decoder, reference, inputs, width, alpha=0.0, counts=None):
    """Compare tokens and scores of all that was kept; what there is no sequence for has a score of -inf."""
    layer = BeamSearchDecoder(decoder, width, alpha, return_beams=True)
    tokens, scores = map(array, layer(inputs, mask=counts))
    assert tokens.shape == (BATCH, width, inputs.shape[1])
    assert tokens.dtype == "int32"
    assert scores.dtype == "float32"
    for i in range(BATCH):
        expected, values = search(reference, inputs[i], width, alpha, row(counts, i))
        np.testing.assert_allclose(scores[i, : len(values)], values, rtol=1e-4, atol=1e-5)
        assert np.all(np.isneginf(scores[i, len(values) :]))
        assert np.min(np.abs(np.diff(values)), initial=np.inf) > 1e-5  # No ties: the order says something.
        np.testing.assert_array_equal(tokens[i, : len(values)], expected)


@pytest.mark.parametrize("alpha", [0.0, 0.8])
@pytest.mark.parametrize("end", [None, END])
@pytest.mark.parametrize("name", ["LSTM", "Dense"])
def test_a_beam_of_all_sequences_ranks_them(name, end, alpha):
    decoder, reference, inputs = example(name, end_token=end, pad_token=PAD, start_token=1)
    expect_beams(decoder, reference, inputs, VOCABULARY**STEPS, alpha)


def test_the_enumeration_is_one_of_all_sequences():
    """The reference with a width of all: probabilities of all sequences sum to 1, and each is that of its tokens."""
    _, reference, inputs = example()
    tokens, scores = search(reference, inputs[0], VOCABULARY**STEPS)
    assert sorted(tokens) == list(itertools.product(range(VOCABULARY), repeat=STEPS))
    np.testing.assert_allclose(np.sum(np.exp(scores)), 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.2])
@pytest.mark.parametrize("width", [2, 5])
def test_a_narrow_beam_is_that_of_lists(width, alpha):
    decoder, reference, inputs = example("stack", steps=7, end_token=END, pad_token=PAD, embedding_dim=3)
    expect_beams(decoder, reference, inputs, width, alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.8])
def test_steps_that_do_not_count_are_passed_over(alpha):
    decoder, reference, inputs = example(steps=5, end_token=END, pad_token=PAD)
    counts = np.array([[1, 0, 1, 1, 1], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "bool")
    expect_beams(decoder, reference, inputs, 3, alpha, counts)


def test_a_width_of_one_is_greedy():
    ended = False
    for end in range(VOCABULARY):
        decoder, _, inputs = example(steps=8, end_token=end, pad_token=PAD)
        free = array(ops.argmax(decoder(inputs), axis=-1))
        ended = ended or (free[:, :-1] == end).any()
        np.testing.assert_array_equal(array(BeamSearchDecoder(decoder, 1)(inputs)), free)
    assert ended


def test_a_wide_beam_finds_what_greedy_misses():
    """Token 0 is likelier at first, but token 1 is followed by a certainty: 0.4 * 1 > 0.6 * 0.5."""
    decoder = TeacherForcingDecoder(keras.layers.Dense(3, "linear"), 2, max_length=2)
    decoder.build((None, 0))
    after = np.log([[0.5, 0.5], [1e-6, 1 - 1e-6], [0.6, 0.4]])  # The last row is the start.
    decoder.cell.set_weights([np.eye(3), np.zeros(3)])
    decoder.projection.set_weights([after, np.zeros(2)])
    for width, tokens, probability in ((1, [0, 0], 0.3), (2, [1, 1], 0.4)):
        # The cell has no states: the inputs say how many samples there are.
        found, scores = BeamSearchDecoder(decoder, width, return_beams=True)(np.zeros((1, 0), "float32"))
        np.testing.assert_array_equal(array(found)[0, 0], tokens)
        np.testing.assert_allclose(np.exp(array(scores)[0, 0]), probability, rtol=1e-4)


def test_shared_weights_in_a_model_that_is_saved(tmp_path):
    """The number of steps is not known; the states come from an encoder."""
    source, labels = keras.Input((None, FEATURES)), keras.Input((None,), dtype="int32")
    _, *states = keras.layers.LSTM(4, return_state=True)(source)
    decoder = TeacherForcingDecoder(keras.layers.LSTMCell(4), VOCABULARY, max_length=4, end_token=END)
    to_train = keras.Model([source, labels], decoder(labels=labels, initial_state=states))
    search_layer = BeamSearchDecoder(decoder, 3, 0.5, return_beams=True)
    to_predict = keras.Model(source, search_layer(initial_state=states))
    assert {id(w) for w in search_layer.trainable_weights} == {id(w) for w in decoder.trainable_weights}
    for i, weight in enumerate(to_train.trainable_variables):
        weight.assign(normal(*weight.shape, seed=i))
    x = normal(5, 6, FEATURES)
    tokens, scores = to_predict.predict(x, verbose=0)
    assert (tokens.shape, scores.shape) == ((5, 3, 4), (5, 3))
    assert [tuple(spec.shape) for spec in to_predict.outputs] == [(None, 3, 4), (None, 3)]
    # The score is what the model that was trained says of these tokens.
    best = tokens[:, 0]
    log_probs = array(ops.log_softmax(to_train([x, best]), axis=-1)).astype("float64")
    counts = np.cumsum(best == END, axis=1) - (best == END) == 0
    chosen = np.take_along_axis(log_probs, best[..., None], axis=-1)[..., 0]
    expected = np.sum(chosen * counts, axis=1) / ((5 + counts.sum(axis=1)) / 6) ** 0.5
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-4)
    to_predict.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").predict(x, verbose=0)
    np.testing.assert_array_equal(again[0], tokens)
    np.testing.assert_allclose(again[1], scores, rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled(jit_compile):
    import tensorflow as tf

    decoder, _, inputs = example(steps=5, end_token=END, pad_token=PAD)
    layer = BeamSearchDecoder(decoder, 3, return_beams=True)
    tokens, scores = map(array, layer(inputs))
    # XLA has to know the shapes.
    shape = (BATCH, 5, FEATURES) if jit_compile else (None, None, FEATURES)
    run = tf.function(layer, jit_compile=jit_compile, input_signature=[tf.TensorSpec(shape)])
    found = run(inputs)
    np.testing.assert_array_equal(array(found[0]), tokens)
    np.testing.assert_allclose(array(found[1]), scores, rtol=1e-5)


def test_mixed_precision_scores_in_float32():
    decoder = TeacherForcingDecoder(keras.layers.GRUCell(4, dtype="mixed_float16"), VOCABULARY, max_length=3)
    tokens, scores = BeamSearchDecoder(decoder, 2, return_beams=True)(initial_state=normal(BATCH, 4))
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    assert np.isfinite(array(scores)).all()
    assert tuple(tokens.shape) == (BATCH, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"beam_width": 0}, ValueError, "BeamSearchDecoder: expected beam_width >= 1; got beam_width=0"),
        ({"beam_width": 2.0}, TypeError, "an integer for beam_width"),
        ({"length_penalty": -0.1}, ValueError, "length_penalty >= 0"),
        ({"length_penalty": "wu"}, TypeError, "a number for length_penalty"),
        ({"max_length": 0}, ValueError, "max_length >= 1"),
        ({"decoder": keras.layers.Dense(3)}, TypeError, "a TeacherForcingDecoder for decoder"),
        ({"decoder": TeacherForcingRegressor(keras.layers.GRUCell(2), 2)}, TypeError, "a TeacherForcingDecoder"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    decoder = TeacherForcingDecoder(keras.layers.GRUCell(4), VOCABULARY)
    with pytest.raises(error, match=message):
        BeamSearchDecoder(**{"decoder": decoder, **arguments})


def test_wrong_calls_are_refused():
    decoder = TeacherForcingDecoder(keras.layers.GRUCell(4), VOCABULARY)
    with pytest.raises(ValueError, match="a max_length where neither labels nor inputs have steps"):
        BeamSearchDecoder(decoder, 2)(initial_state=normal(BATCH, 4))
    with pytest.raises(ValueError, match="beam_width <= vocabulary_size"):
        BeamSearchDecoder(decoder, 17, max_length=2)(initial_state=normal(BATCH, 4))
    with pytest.raises(ValueError, match="an initial_state of the sizes of the cell"):
        BeamSearchDecoder(decoder, 2, max_length=2)(initial_state=normal(BATCH, 5))
