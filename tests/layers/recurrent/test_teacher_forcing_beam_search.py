"""BeamSearchDecoder: what it is given, and how long it searches."""

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.decoder_reference import array, filled, normal

from keras_kicks.layers.recurrent.beam_search_decoder import BeamSearchDecoder
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder

BATCH, STEPS, VOCABULARY, END = 3, 4, 3, 2


@pytest.mark.parametrize("form", ["sequence", "context", "states"])
def test_a_beam_of_one_is_what_the_decoder_predicts(form):
    shape = {"sequence": (BATCH, STEPS, 2), "context": (BATCH, 2), "states": None}[form]
    inputs, states = None if shape is None else normal(*shape), normal(BATCH, 4, seed=1)
    decoder = TeacherForcingDecoder(keras.layers.GRUCell(4), VOCABULARY, end_token=END, max_length=STEPS)
    filled(decoder, shape)
    got = array(BeamSearchDecoder(decoder, 1)(inputs, states))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, array(decoder(inputs, initial_state=states)).argmax(axis=-1))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX calls the body of a loop once, to trace it")
def test_the_search_stops_when_all_have_ended():
    """An eager search with a decoder that predicts the end at once asks for no second step."""
    steps = []

    class Counted(keras.layers.GRUCell):
        def call(self, *args, **kwargs):
            steps.append(1)
            return super().call(*args, **kwargs)

    decoder = filled(TeacherForcingDecoder(Counted(4), VOCABULARY, end_token=END, max_length=STEPS))
    search, states = BeamSearchDecoder(decoder, 1), normal(BATCH, 4)
    for bias, expected in ((100.0, 1), (-100.0, STEPS)):
        decoder.projection.bias.assign([0.0, 0.0, bias])
        steps.clear()
        tokens = array(search(initial_state=states))
        assert np.all(tokens == END) == (bias > 0)
        assert len(steps) == expected


def test_max_length_may_be_another_than_the_decoders():
    decoder = filled(TeacherForcingDecoder(keras.layers.GRUCell(4), VOCABULARY, max_length=3))
    states = normal(BATCH, 4)
    short, long = (array(BeamSearchDecoder(decoder, 2, max_length=n)(initial_state=states)) for n in (2, 5))
    assert short.shape == (BATCH, 2)
    assert long.shape == (BATCH, 5)
    symbolic = BeamSearchDecoder(decoder, 2, max_length=5, return_beams=True)(initial_state=keras.Input((4,)))
    assert [tuple(x.shape) for x in symbolic] == [(None, 2, 5), (None, 2)]
    assert [x.dtype for x in symbolic] == ["int32", "float32"]


def test_the_padding_of_a_step_that_does_not_count_ends_nothing():
    """Where the end token is the padding, too."""
    decoder = filled(TeacherForcingDecoder(keras.layers.GRUCell(4), VOCABULARY, end_token=END), (None, 2))
    decoder.projection.bias.assign([0.0, 0.0, -3.0])
    inputs, search = normal(BATCH, STEPS, 2), BeamSearchDecoder(decoder, 2)
    expected = array(search(inputs[:, 1:]))
    assert np.any(expected != END)
    tokens = array(search(inputs, mask=np.arange(STEPS) * np.ones((BATCH, 1)) > 0))
    np.testing.assert_array_equal(tokens, np.concatenate([np.full((BATCH, 1), END), expected], axis=1))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="XLA may leave out the rounding of logits in a loop")
def test_scores_are_not_rounded():
    """In bfloat16 the logits are, and the log-probabilities are those of what was rounded."""
    cell = keras.layers.GRUCell(4, dtype="mixed_bfloat16")
    decoder = filled(TeacherForcingDecoder(cell, VOCABULARY, max_length=STEPS))
    states = normal(BATCH, 4)
    _, scores = BeamSearchDecoder(decoder, 1, return_beams=True)(initial_state=states)
    logits = array(ops.cast(decoder(initial_state=states), "float32")).astype("float64")
    greedy = logits.max(axis=-1) - np.log(np.exp(logits).sum(axis=-1))
    np.testing.assert_allclose(array(scores)[:, 0], greedy.sum(axis=1), rtol=1e-5)
