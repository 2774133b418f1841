"""TeacherForcingDecoder in models: training, prediction, files, compilers, replicas, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.decoder_reference import array, filled, ids, normal

import keras_kicks as kk
from keras_kicks.layers.recurrent import feedback_decoder
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder

VOCABULARY, STEPS = 5, 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def models(units=6, **options):
    """Return the model to train, that to predict, and the decoder that they share."""
    source, labels = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    _, *states = keras.layers.LSTM(units, return_state=True)(source)
    cell = kk.layers.LSTMCell(units)
    decoder = TeacherForcingDecoder(cell, VOCABULARY, 4, max_length=STEPS, seed=1, **options)
    to_train = keras.Model([source, labels], decoder(labels=labels, initial_state=states))
    return to_train, keras.Model(source, decoder(initial_state=states)), decoder


@pytest.mark.slow
@pytest.mark.parametrize(("scheduled_sampling", "jit_compile"), [(None, False), ("sample", True)])
def test_one_model_learns_and_the_other_predicts(scheduled_sampling, jit_compile):
    """Four sequences, told by their sources."""
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("Torch's compiler takes minutes for a loop over steps.")
    keras.utils.set_random_seed(1)
    ratio = 0.5 if scheduled_sampling else 1.0
    to_train, to_predict, _ = models(16, scheduled_sampling=scheduled_sampling, teacher_forcing_ratio=ratio)
    x, y = normal(4, 2, 3), ids(VOCABULARY, 4, STEPS)
    to_train.compile(keras.optimizers.Adam(0.05), LOSS, jit_compile=jit_compile)
    to_train.fit([x, y], y, batch_size=4, epochs=60, verbose=0)
    np.testing.assert_array_equal(to_predict.predict(x, verbose=0).argmax(-1), y)


def test_both_models_have_one_set_of_weights_and_are_saved(tmp_path):
    to_train, to_predict, _ = models(
        scheduled_sampling="sample", teacher_forcing_ratio=0.25, start_token=1, end_token=2
    )
    assert {id(w) for w in to_train.trainable_weights} == {id(w) for w in to_predict.trainable_weights}
    x, y = normal(4, 2, 3), ids(VOCABULARY, 4, STEPS)
    for model, inputs in ((to_train, [x, y]), (to_predict, x)):
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(array(loaded(inputs)), array(model(inputs)))


def test_labels_only_once_and_own_predictions_only_at_the_ends_of_the_range():
    """At 1 training is teacher forcing and at 0 it is fed what a free run predicts, bit by bit."""
    decoder = filled(TeacherForcingDecoder(kk.layers.LSTMCell(4), VOCABULARY, scheduled_sampling="argmax"), (None, 2))
    x, y = normal(3, STEPS, 2), ids(VOCABULARY, 3, STEPS)
    np.testing.assert_array_equal(array(decoder(x, y, training=True)), array(decoder(x, y)))
    decoder.teacher_forcing_ratio.assign(0.0)
    np.testing.assert_allclose(array(decoder(x, y, training=True)), array(decoder(x)), rtol=1e-5, atol=1e-6)


def test_as_many_labels_are_fed_as_the_ratio_says():
    """Tokens of their own are never labels here; four standard deviations of a binomial count."""
    decoder = TeacherForcingDecoder(
        keras.layers.Dense(2), 3, scheduled_sampling="argmax", teacher_forcing_ratio=0.3, seed=0
    )
    decoder.build()
    decoder.projection.set_weights([np.zeros((2, 3)), np.array([0, 0, 1])])  # Its own is always 2.
    fed = []
    decoder.encode = lambda tokens, encode=decoder.encode: fed.append(tokens) or encode(tokens)
    for _ in range(2):
        decoder(labels=ids(2, 200, 51), training=True)
    rounds = [array(tokens)[:, 1:] < 2 for tokens in fed if len(tokens.shape) == 2]
    count = 200 * 50
    for labels in rounds:
        assert abs(labels.sum() - 0.3 * count) < 4 * np.sqrt(count * 0.3 * 0.7)
        # Each step and each sample has a coin of its own.
        assert labels.any(axis=0).all()
        assert labels.any(axis=1).all()
        assert len(np.unique(labels, axis=0)) == 200
    assert (rounds[0] != rounds[1]).any()


def test_dropout_of_the_cell_is_that_of_training_alone():
    cell = kk.layers.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5, seed=3)
    decoder = filled(TeacherForcingDecoder(cell, VOCABULARY, scheduled_sampling="argmax"), (None, 2))
    decoder.teacher_forcing_ratio.assign(0.5)
    x, y = normal(3, STEPS, 2), ids(VOCABULARY, 3, STEPS)
    np.testing.assert_array_equal(array(decoder(x, y)), array(decoder(x, y)))
    assert np.abs(array(decoder(x, y, training=True)) - array(decoder(x, y))).max() > 1e-3
    np.testing.assert_array_equal(array(decoder(x)), array(decoder(x)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    cell = kk.layers.LSTMCell(4, dtype=policy)
    decoder = TeacherForcingDecoder(cell, VOCABULARY, 3, end_token=1, scheduled_sampling="sample")
    x, y = normal(3, STEPS, 2), ids(VOCABULARY, 3, STEPS)
    for result in (decoder(x, y), decoder(x, y, training=True), decoder(x)):
        assert keras.backend.standardize_dtype(result.dtype) == policy.removeprefix("mixed_")
        assert np.isfinite(array(ops.cast(result, "float32"))).all()
    floating = [v for v in decoder.variables if "int" not in keras.backend.standardize_dtype(v.dtype)]
    assert {keras.backend.standardize_dtype(v.dtype) for v in floating} == {"float32"}


@pytest.mark.tensorflow
def test_replicas_toss_coins_of_their_own(monkeypatch):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    drawn = []
    draw = feedback_decoder.draw_uniform
    monkeypatch.setattr(feedback_decoder, "draw_uniform", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])
    with strategy.scope():
        decoder = TeacherForcingDecoder(
            keras.layers.SimpleRNNCell(4), VOCABULARY, scheduled_sampling="argmax", teacher_forcing_ratio=0.5, seed=0
        )
        decoder.build()
    labels = ids(VOCABULARY, 3, STEPS)
    strategy.run(lambda: decoder(labels=labels, training=True))
    first, second = map(array, drawn)
    assert np.abs(first - second).min() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocabulary_size": 0}, ValueError, "TeacherForcingDecoder: expected vocabulary_size >= 1"),
        ({"vocabulary_size": 2.5}, TypeError, "an integer for vocabulary_size"),
        ({"embedding_dim": 0}, ValueError, "embedding_dim >= 1"),
        ({"start_token": 5}, ValueError, r"start_token in \[0, vocabulary_size\); got start_token=5"),
        ({"end_token": -1}, ValueError, r"end_token in \[0, vocabulary_size\)"),
        ({"pad_token": 9}, ValueError, r"pad_token in \[0, vocabulary_size\)"),
        ({"end_token": 1.0}, TypeError, "an integer for end_token"),
        ({"max_length": 0}, ValueError, "max_length >= 1"),
        ({"scheduled_sampling": "softmax"}, ValueError, "scheduled_sampling to be one of None, 'argmax', 'sample'"),
        ({"scheduled_sampling": "argmax", "teacher_forcing_ratio": 1.5}, ValueError, "0 <= teacher_forcing_ratio <= 1"),
        ({"teacher_forcing_ratio": 0.5}, ValueError, "teacher_forcing_ratio=1 without scheduled_sampling"),
        ({"seed": 0.5}, TypeError, "an integer for seed"),
        ({"cell": 3}, TypeError, "a recurrent cell or another layer"),
        ({"cell": keras.layers.GRU(3)}, TypeError, "a recurrent cell or another layer"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TeacherForcingDecoder(**{"cell": keras.layers.GRUCell(4), "vocabulary_size": VOCABULARY, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": normal(3, STEPS)}, TypeError, "integers for labels; got labels='float32'"),
        ({"labels": ids(2, 3, STEPS, 1)}, ValueError, r"labels of shape \(batch, steps\)"),
        ({"labels": ids(2, 3)}, ValueError, r"labels of shape \(batch, steps\)"),
        ({}, ValueError, "inputs, labels or an initial_state"),
        ({"initial_state": normal(3, 4)}, ValueError, "a max_length where neither labels nor inputs have steps"),
        ({"initial_state": normal(3, 4), "training": True}, ValueError, "labels in training"),
        ({"labels": ids(2, 3, STEPS), "initial_state": normal(3, 5)}, ValueError, "an initial_state of the sizes"),
        ({"labels": ids(2, 3, STEPS), "inputs": normal(3, 7, 2)}, ValueError, "as many steps in inputs as in labels"),
    ],
)
def test_wrong_calls_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TeacherForcingDecoder(keras.layers.GRUCell(4), VOCABULARY)(**arguments)
