"""TeacherForcingDecoder and TeacherForcingRegressor against a loop over steps in NumPy."""

import inspect
import itertools

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.decoder_reference import CELLS, Reference, array, expect_rows, filled, ids, normal, row

from keras_kicks.layers.recurrent import feedback_loop
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor
from keras_kicks.ops.keras_mask import get_mask, set_mask

BATCH, STEPS, VOCABULARY, FEATURES = 3, 6, 5, 2
MASK = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0], [0] * 6], "bool")
INPUTS = {"none": (), "context": (BATCH, FEATURES), "sequence": (BATCH, STEPS, FEATURES)}


def example(name, form="sequence", **options):
    """Return a decoder with random weights, its reference, inputs, labels and first states."""
    make, step, sizes = CELLS[name]
    shape = INPUTS[form]
    decoder = filled(TeacherForcingDecoder(make(), VOCABULARY, max_length=STEPS, **options), shape or None)
    states = [normal(BATCH, size, seed=i + 1) for i, size in enumerate(sizes)] or None
    inputs = normal(*shape) if shape else None
    return decoder, Reference(decoder, step, sizes), inputs, ids(VOCABULARY, BATCH, STEPS), states


def known_draws(monkeypatch):
    """Have scheduled sampling draw known numbers; return those of the coins and those of the tokens."""
    draws = np.random.default_rng(5).random((2, BATCH, STEPS)).astype("float32")

    def draw(shape, seed, per_replica):
        assert tuple(map(int, shape)) == draws.shape
        assert per_replica
        return ops.convert_to_tensor(draws)

    monkeypatch.setattr(feedback_loop, "draw_uniform", draw)
    return draws


# All pairs with TensorFlow; on the other backends, where each takes long to compile, these.
EVERYWHERE = {("SimpleRNN", "none"), ("LSTM", "sequence"), ("stack", "none"), ("Dense", "context")}
PAIRS = [
    pytest.param(*pair, marks=[] if pair in EVERYWHERE else [pytest.mark.slow])
    for pair in itertools.product(CELLS, INPUTS)
]


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_values_are_those_of_the_loop(name, form, monkeypatch):
    """After labels, after own predictions, and after a mixture of both by known coins."""
    ratio = 0.5
    decoder, reference, inputs, labels, states = example(
        name, form, embedding_dim=3, start_token=1, scheduled_sampling="argmax", teacher_forcing_ratio=ratio
    )
    if name == "Dense" and form == "none":
        inputs = None

    def expected(**options):
        samples = range(BATCH)
        arguments = [{key: row(value, i) for key, value in options.items()} for i in samples]
        return [reference.run(STEPS, inputs=row(inputs, i), states=row(states, i), **arguments[i]) for i in samples]

    arguments = {"inputs": inputs, "initial_state": states}
    expect_rows(array(decoder(labels=labels, **arguments)), expected(labels=labels))
    if inputs is not None or states is not None:
        expect_rows(array(decoder(**arguments)), expected())
    coins = known_draws(monkeypatch)[0] < ratio
    expect_rows(array(decoder(labels=labels, training=True, **arguments)), expected(labels=labels, coins=coins))


@pytest.mark.parametrize("name", ["LSTM", "Dense"])
def test_sampled_tokens_are_those_of_the_distribution_function(name, monkeypatch):
    decoder, reference, inputs, labels, states = example(name, scheduled_sampling="sample", teacher_forcing_ratio=0.3)
    coins, draws = known_draws(monkeypatch)
    got = array(decoder(inputs, labels, states, training=True))
    expected = [
        reference.run(STEPS, labels[i], inputs[i], row(states, i), coins=coins[i] < 0.3, draws=draws[i])
        for i in range(BATCH)
    ]
    expect_rows(got, expected)


@pytest.mark.parametrize("name", ["LSTM", "stack", "Dense"])
def test_masked_steps_are_left_out(name, monkeypatch):
    """In all three ways of feeding back, and with every way to give the mask."""
    options = {"start_token": 4, "scheduled_sampling": "argmax", "teacher_forcing_ratio": 0.5}
    decoder, reference, inputs, labels, states = example(name, **options)
    labels[~MASK] = -1  # No token: nothing may look at it.

    def expected(**options):
        arguments = [{key: row(value, i) for key, value in options.items()} for i in range(BATCH)]
        return [
            reference.run(STEPS, inputs=inputs[i], states=row(states, i), counts=MASK[i], **arguments[i])
            for i in range(BATCH)
        ]

    masked = set_mask(ops.convert_to_tensor(inputs), ops.convert_to_tensor(MASK))
    masked_labels = set_mask(ops.convert_to_tensor(labels), ops.convert_to_tensor(MASK))
    taught = expected(labels=labels)
    for got in (
        decoder(inputs, labels, states, mask=MASK),
        decoder(masked, labels, states),
        decoder(inputs, masked_labels, states),
        decoder(inputs, masked_labels, states, mask=np.ones_like(MASK)),
    ):
        np.testing.assert_array_equal(array(get_mask(got)), MASK)
        expect_rows(array(got), taught, MASK)
    free = decoder(masked, initial_state=states)
    np.testing.assert_array_equal(array(get_mask(free)), MASK)
    expect_rows(array(free), expected(), MASK)
    coins = known_draws(monkeypatch)[0] < 0.5
    mixed = decoder(masked, labels, states, training=True)
    expect_rows(array(mixed), expected(labels=labels, coins=coins), MASK)


def test_padding_is_a_mask():
    decoder, reference, inputs, labels, states = example("LSTM", pad_token=0)
    assert 0 < np.sum(labels == 0) < labels.size
    got = decoder(inputs, labels, states)
    np.testing.assert_array_equal(array(get_mask(got)), labels != 0)
    expected = [reference.run(STEPS, labels[i], inputs[i], row(states, i), counts=labels[i] != 0) for i in range(BATCH)]
    expect_rows(array(got), expected, labels != 0)


def test_after_its_end_token_padding_is_certain():
    """Running freely; the token that ends is one that some samples predict on the way, and others do not."""
    decoder, reference, inputs, _, states = example("LSTM", end_token=4, pad_token=2)
    free = [reference.run(STEPS, inputs=inputs[i], states=row(states, i)) for i in range(BATCH)]
    predicted = np.array([[output.argmax() for output in outputs.values()] for outputs in free])
    ends = [np.flatnonzero(tokens == 4) for tokens in predicted]
    assert any(len(end) and end[0] < STEPS - 2 for end in ends)
    assert any(not len(end) for end in ends)
    got = array(decoder(inputs, initial_state=states))
    for i, end in enumerate(ends):
        last = end[0] if len(end) else STEPS - 1
        np.testing.assert_allclose(got[i, : last + 1], [free[i][t] for t in range(last + 1)], rtol=1e-4, atol=1e-4)
        probabilities = array(ops.softmax(got[i, last + 1 :]))
        np.testing.assert_array_equal(probabilities, np.eye(VOCABULARY)[[2] * len(probabilities)])


def test_a_label_reaches_no_output_before_or_at_its_own_step():
    decoder, _, inputs, labels, states = example("LSTM")
    before = array(decoder(inputs, labels, states))
    for t in range(STEPS):
        other = labels.copy()
        other[:, t] = (other[:, t] + 1) % VOCABULARY
        after = array(decoder(inputs, other, states))
        np.testing.assert_array_equal(after[:, : t + 1], before[:, : t + 1])
        assert t == STEPS - 1 or np.abs(after[:, t + 1] - before[:, t + 1]).min() > 1e-5


def test_of_nothing_but_labels_the_first_states_are_zeros():
    decoder, reference, _, labels, _ = example("LSTM", "none")
    expect_rows(array(decoder(labels=labels)), [reference.run(STEPS, labels[i]) for i in range(BATCH)])


@pytest.mark.parametrize("name", CELLS)
def test_vectors_are_fed_back(name, monkeypatch):
    """The regressor, in all three ways, with masks."""
    make, step, sizes = CELLS[name]
    decoder = TeacherForcingRegressor(make(), 3, scheduled_sampling=True, teacher_forcing_ratio=0.5)
    filled(decoder, (None, FEATURES), scale=0.7)
    reference = Reference(decoder, step, sizes)
    inputs, labels = normal(BATCH, STEPS, FEATURES), normal(BATCH, STEPS, 3, seed=1)

    def expected(counts=None, **options):
        arguments = [{key: row(value, i) for key, value in options.items()} for i in range(BATCH)]
        return [reference.run(STEPS, inputs=inputs[i], counts=row(counts, i), **arguments[i]) for i in range(BATCH)]

    expect_rows(array(decoder(inputs, labels)), expected(labels=labels))
    expect_rows(array(decoder(inputs)), expected())
    expect_rows(array(decoder(inputs, labels, mask=MASK)), expected(MASK, labels=labels), MASK)
    expect_rows(array(decoder(inputs, mask=MASK)), expected(MASK), MASK)
    coins = known_draws(monkeypatch)[0] < 0.5
    expect_rows(array(decoder(inputs, labels, training=True)), expected(labels=labels, coins=coins))


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", [TeacherForcingDecoder, TeacherForcingRegressor])
@pytest.mark.parametrize("name", ["LSTM", "Dense"])
def test_the_gradient_is_that_of_labels_that_say_what_was_fed(name, kind, monkeypatch):
    """No gradient flows through what the decoder chose."""
    import tensorflow as tf

    make, step, sizes = CELLS[name]
    tokens = kind is TeacherForcingDecoder
    sampling = {"scheduled_sampling": "argmax" if tokens else True, "teacher_forcing_ratio": 0.4}
    decoder = filled(kind(make(), VOCABULARY, **sampling), (None, FEATURES), scale=0.7)
    reference = Reference(decoder, step, sizes)
    inputs = normal(BATCH, STEPS, FEATURES)
    labels = ids(VOCABULARY, BATCH, STEPS) if tokens else normal(BATCH, STEPS, VOCABULARY, seed=1)
    coins = known_draws(monkeypatch)[0] < 0.4
    fed = np.zeros_like(labels)
    for i in range(BATCH):
        reference.run(STEPS, labels[i], inputs[i], coins=coins[i])
        fed[i, :-1] = reference.fed[1:]
    assert (fed != labels)[:, :-1].any()

    def gradients(labels, training):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(decoder(inputs, labels, training=training) ** 2)
        return tape.gradient(loss, [weight.value for weight in decoder.trainable_variables])

    for got, expected in zip(gradients(labels, True), gradients(fed, False), strict=True):
        np.testing.assert_allclose(array(got), array(expected), rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.tensorflow
def test_labels_that_are_fed_have_a_gradient(monkeypatch):
    """Of a regressor's labels those have one whose coin said so, but for the last, which is fed to no step."""
    import tensorflow as tf

    decoder = TeacherForcingRegressor(keras.layers.Dense(4), 3, scheduled_sampling=True, teacher_forcing_ratio=0.5)
    filled(decoder, (None, FEATURES))
    coins = known_draws(monkeypatch)[0] < 0.5
    labels = tf.constant(normal(BATCH, STEPS, 3))
    with tf.GradientTape() as tape:
        tape.watch(labels)
        loss = tf.reduce_sum(decoder(normal(BATCH, STEPS, FEATURES), labels, training=True) ** 2)
    moved = np.abs(array(tape.gradient(loss, labels))).max(axis=-1) > 0
    np.testing.assert_array_equal(moved[:, :-1], coins[:, 1:])
    assert not moved[:, -1].any()


def test_every_argument_is_in_the_config():
    for kind in (TeacherForcingDecoder, TeacherForcingRegressor):
        names = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
        assert names <= set(kind(keras.layers.GRUCell(2), 3).get_config())


@pytest.mark.parametrize("inputs_shape", [None, (None, None, FEATURES)])
def test_it_is_built_again_from_its_config(inputs_shape):
    decoder = filled(TeacherForcingDecoder(keras.layers.GRUCell(2), VOCABULARY, 3), inputs_shape)
    again = TeacherForcingDecoder.from_config(decoder.get_config())
    assert again.get_build_config() is None
    again.build_from_config(decoder.get_build_config())
    again.set_weights(decoder.get_weights())
    inputs, labels = None if inputs_shape is None else normal(BATCH, STEPS, FEATURES), ids(VOCABULARY, BATCH, STEPS)
    np.testing.assert_array_equal(array(again(inputs, labels)), array(decoder(inputs, labels)))
