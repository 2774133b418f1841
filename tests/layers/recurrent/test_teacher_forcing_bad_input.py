"""What decoders refuse, and how they say it."""

import re

import keras
import numpy as np
import pytest
from layers.recurrent.decoder_reference import filled, ids, normal

from keras_kicks.layers.recurrent.beam_search_decoder import BeamSearchDecoder
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor


def gru():
    return keras.layers.GRUCell(4)


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cell": 3}, TypeError, "expected a recurrent cell or another layer for cell; got cell=3. Pass a layer"),
        (
            {"cell": keras.layers.GRU(2)},
            TypeError,
            "expected a recurrent cell or another layer for cell; got cell=<GRU",
        ),
        ({"vocabulary_size": 0}, ValueError, "expected vocabulary_size >= 1; got vocabulary_size=0."),
        ({"vocabulary_size": 2.0}, TypeError, "expected an integer for vocabulary_size; got vocabulary_size=2.0."),
        ({"embedding_dim": 0}, ValueError, "expected embedding_dim >= 1; got embedding_dim=0."),
        (
            {"start_token": 5},
            ValueError,
            "expected start_token in [0, vocabulary_size); got start_token=5, vocabulary_size=5.",
        ),
        (
            {"end_token": -1},
            ValueError,
            "expected end_token in [0, vocabulary_size); got end_token=-1, vocabulary_size=5.",
        ),
        ({"pad_token": "<pad>"}, TypeError, "expected an integer for pad_token; got pad_token='<pad>'."),
        ({"max_length": 0}, ValueError, "expected max_length >= 1; got max_length=0."),
        (
            {"scheduled_sampling": "beam"},
            ValueError,
            "expected scheduled_sampling to be one of None, 'argmax', 'sample'; got scheduled_sampling='beam'.",
        ),
        (
            {"scheduled_sampling": "argmax", "teacher_forcing_ratio": 1.5},
            ValueError,
            "expected 0 <= teacher_forcing_ratio <= 1; got teacher_forcing_ratio=1.5.",
        ),
        (
            {"teacher_forcing_ratio": 0.5},
            ValueError,
            "expected teacher_forcing_ratio=1 without scheduled_sampling; got teacher_forcing_ratio=0.5. Say how to",
        ),
        ({"seed": 0.5}, TypeError, "expected an integer for seed; got seed=0.5. Pass None or an integer."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with refused(error, f"TeacherForcingDecoder: {message}"):
        TeacherForcingDecoder(**{"cell": gru(), "vocabulary_size": 5, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": 0}, ValueError, "expected units >= 1; got units=0."),
        ({"units": None}, TypeError, "expected an integer for units; got units=None."),
        ({"teacher_forcing_ratio": 0}, ValueError, "expected teacher_forcing_ratio=1 without scheduled_sampling"),
    ],
)
def test_wrong_arguments_of_a_regressor_are_refused(arguments, error, message):
    with refused(error, f"TeacherForcingRegressor: {message}"):
        TeacherForcingRegressor(**{"cell": gru(), "units": 5, **arguments})


LABELS, INPUTS, STATE = ids(5, 3, 6), normal(3, 6, 2), normal(3, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "expected inputs, labels or an initial_state; got inputs=None, labels=None."),
        (
            {"labels": LABELS.astype("float32")},
            TypeError,
            "expected integers for labels; got labels='float32'. Pass keras.Input((None,), dtype=\"int32\") or",
        ),
        ({"labels": LABELS[0]}, ValueError, "expected labels of shape (batch, steps); got labels_shape=(6,)."),
        (
            {"labels": LABELS[..., None]},
            ValueError,
            "expected labels of shape (batch, steps); got labels_shape=(3, 6, 1).",
        ),
        (
            {"labels": LABELS, "inputs": INPUTS[:, :5]},
            ValueError,
            "expected as many steps in inputs as in labels; got steps=[5, 6].",
        ),
        (
            {"inputs": INPUTS[..., None]},
            ValueError,
            "expected inputs of shape (batch, steps, features) or (batch, features); got inputs_shape=(3, 6, 2, 1).",
        ),
        (
            {"initial_state": STATE, "training": True},
            ValueError,
            "expected labels in training; got labels=None. Build the model to train with decoder(inputs, labels).",
        ),
        (
            {"initial_state": STATE},
            ValueError,
            "expected a max_length where neither labels nor inputs have steps; got max_length=None. Pass it to the",
        ),
        (
            {"labels": LABELS, "initial_state": [STATE, STATE]},
            ValueError,
            "expected an initial_state of the sizes of the cell; got given=[(3, 4), (3, 4)], state_size=[4].",
        ),
        (
            {"labels": LABELS, "initial_state": normal(3, 3)},
            ValueError,
            "expected an initial_state of the sizes of the cell; got given=[(3, 3)], state_size=[4].",
        ),
    ],
)
def test_wrong_calls_are_refused(arguments, error, message):
    """Of arrays when they are called, and of symbols when a model is made."""
    with refused(error, f"TeacherForcingDecoder: {message}"):
        TeacherForcingDecoder(gru(), 5)(**arguments)
    symbols = {
        name: keras.Input(value.shape[1:], dtype=value.dtype.name) if hasattr(value, "shape") else value
        for name, value in arguments.items()
    }
    if symbols and "training" not in symbols and not isinstance(symbols.get("initial_state"), list):
        with pytest.raises(error, match="TeacherForcingDecoder: expected"):
            TeacherForcingDecoder(gru(), 5)(**symbols)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (LABELS, TypeError, "expected floating labels; got labels='int32'."),
        (INPUTS, ValueError, "expected labels of shape (batch, steps, units); got labels_shape=(3, 6, 2), units=5."),
        (INPUTS[:, 0], ValueError, "expected labels of shape (batch, steps, units); got labels_shape=(3, 2), units=5."),
    ],
)
def test_wrong_labels_of_a_regressor_are_refused(labels, error, message):
    with refused(error, f"TeacherForcingRegressor: {message}"):
        TeacherForcingRegressor(gru(), 5)(labels=labels)


def test_inputs_come_always_or_never():
    decoder = filled(TeacherForcingDecoder(gru(), 5), (None, 2))
    message = "expected inputs of the width that the layer was built with (None for no inputs); got built_with=2"
    with refused(ValueError, f"{message}, inputs=None."):
        decoder(labels=LABELS)
    with refused(ValueError, f"{message}, inputs=3."):
        decoder(normal(3, 6, 3), LABELS)


def test_a_layer_in_place_of_a_cell_has_no_states_and_one_output():
    with refused(ValueError, "expected no initial_state for a cell without states; got cell='hidden'."):
        TeacherForcingDecoder(keras.layers.Dense(4, name="hidden"), 5)(labels=LABELS, initial_state=STATE)
    message = "expected a layer from shape (batch, features) to shape (batch, units) for cell; got output_shape="
    with refused(ValueError, message):
        TeacherForcingDecoder(keras.layers.RepeatVector(2), 5)(labels=LABELS)


def test_inputs_of_unknown_width_are_refused():
    with refused(ValueError, "expected inputs whose last dimension is known; got inputs_shape=(None, None, None)."):
        TeacherForcingDecoder(gru(), 5)(keras.Input((None, None)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"decoder": gru()}, TypeError, "expected a TeacherForcingDecoder for decoder; got decoder=<GRUCell"),
        (
            {"decoder": TeacherForcingRegressor(gru(), 5)},
            TypeError,
            "expected a TeacherForcingDecoder for decoder; got decoder=<TeacherForcingRegressor",
        ),
        ({"beam_width": 0}, ValueError, "expected beam_width >= 1; got beam_width=0."),
        ({"beam_width": 2.5}, TypeError, "expected an integer for beam_width; got beam_width=2.5."),
        ({"length_penalty": -0.1}, ValueError, "expected length_penalty >= 0; got length_penalty=-0.1."),
        ({"length_penalty": "gnmt"}, TypeError, "expected a number for length_penalty; got length_penalty='gnmt'."),
        ({"max_length": 0}, ValueError, "expected max_length >= 1; got max_length=0."),
    ],
)
def test_wrong_arguments_of_a_search_are_refused(arguments, error, message):
    with refused(error, f"BeamSearchDecoder: {message}"):
        BeamSearchDecoder(**{"decoder": TeacherForcingDecoder(gru(), 5), **arguments})


def test_a_beam_is_no_wider_than_there_are_sequences():
    decoder = filled(TeacherForcingDecoder(gru(), 5, max_length=2))
    BeamSearchDecoder(decoder, 25)(initial_state=STATE)
    message = "BeamSearchDecoder: expected beam_width <= vocabulary_size ** steps; got beam_width=26, sequences=25."
    with refused(ValueError, message):
        BeamSearchDecoder(decoder, 26)(initial_state=STATE)
    with refused(ValueError, message):
        BeamSearchDecoder(decoder, 26)(initial_state=keras.Input((4,)))


def test_a_search_needs_a_length():
    with refused(ValueError, "expected a max_length where neither labels nor inputs have steps; got max_length=None."):
        BeamSearchDecoder(TeacherForcingDecoder(gru(), 5))(initial_state=STATE)


@pytest.mark.tensorflow
def test_a_model_without_labels_is_not_trained():
    decoder = TeacherForcingDecoder(gru(), 5, max_length=6)
    state = keras.Input((4,))
    model = keras.Model(state, decoder(initial_state=state))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    with refused(ValueError, "TeacherForcingDecoder: expected labels in training; got labels=None."):
        model.fit(STATE, LABELS, verbose=0)
    assert np.isfinite(model.evaluate(STATE, LABELS, verbose=0))
