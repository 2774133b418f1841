"""The tokens that a decoder predicts, by beam search."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.layers.recurrent.feedback_arguments import check_arguments, is_sequence
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder
from keras_kicks.ops.beam_search import beam_search


@keras.saving.register_keras_serializable(package="keras_kicks")
class BeamSearchDecoder(keras.layers.Layer):
    """Finds the sequence of tokens that a `TeacherForcingDecoder` gives the highest score.

        score(y) = sum_t log p(y_t | y_1, ..., y_{t-1}, x) / ((5 + |y|) / 6)^length_penalty

    It shares the weights of the decoder. Of each sample it keeps the `beam_width` best beginnings: with a width of 1 it
    is greedy, and predicts what the decoder does when it runs freely; with a width of all sequences it finds the best
    one for certain. |y| counts the end token. The loop ends when all samples have ended.

    Args:
        decoder: A `TeacherForcingDecoder`.
        beam_width: Number of beginnings to keep, >= 1, and at most the number of sequences.
        length_penalty: Exponent alpha of Wu et al., >= 0; 0 for none, which prefers short sequences.
        max_length: Steps of a search without inputs of shape (batch, steps, features); by default that of the decoder.
        return_beams: Whether to return all that were kept, and their scores.
        **kwargs: Base layer arguments, such as `name`.

    Call arguments:
        inputs: As the decoder's.
        initial_state: As the decoder's.
        mask: As the decoder's.

    Returns:
        int32 tokens of shape (batch, steps), with padding after an end token and in steps that do not count. With
        `return_beams` tokens of shape (batch, beam_width, steps), the best first, and their scores of shape
        (batch, beam_width), in float32; the score is -inf where there are no more sequences.

    Raises:
        TypeError: `decoder` is no TeacherForcingDecoder, `beam_width` or `max_length` no integer, `length_penalty` no
            number.
        ValueError: expected beam_width >= 1, and at most vocabulary_size ** steps; length_penalty >= 0;
            max_length >= 1, and one where the inputs have no steps; inputs or an initial_state as the decoder takes
            them.

    Masking:
        Steps that do not count are passed over, as in the decoder. The mask is not passed on.

    Source:
        Wu et al. 2016, arXiv:1609.08144, section 7, for the length penalty; Graves 2012, arXiv:1211.3711, for the
        search.

    Example:
        >>> import numpy as np
        >>> decoder = TeacherForcingDecoder(keras.layers.GRUCell(8), vocabulary_size=5, end_token=1, max_length=4)
        >>> tokens = BeamSearchDecoder(decoder, beam_width=3)(initial_state=np.ones((2, 8), "float32"))
        >>> tuple(tokens.shape)
        (2, 4)
    """

    def __init__(self, decoder, beam_width=4, length_penalty=0.0, max_length=None, return_beams=False, **kwargs):
        owner = type(self).__name__
        is_decoder = isinstance(decoder, TeacherForcingDecoder)
        expect(is_decoder, owner, "a TeacherForcingDecoder for decoder", error=TypeError, decoder=decoder)
        expect_integer(owner, beam_width=beam_width)
        expect(beam_width >= 1, owner, "beam_width >= 1", beam_width=beam_width)
        expect_number(owner, length_penalty=length_penalty)
        expect(length_penalty >= 0, owner, "length_penalty >= 0", length_penalty=length_penalty)
        if max_length is not None:
            expect_integer(owner, max_length=max_length)
            expect(max_length >= 1, owner, "max_length >= 1", max_length=max_length)
        kwargs.setdefault("dtype", decoder.dtype_policy)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.decoder = decoder
        self.beam_width = beam_width
        self.length_penalty = float(length_penalty)
        self.max_length = max_length
        self.return_beams = bool(return_beams)

    def build(self, inputs_shape=None, initial_state_shape=None):
        """Create the weights of the decoder, if it has none yet."""
        if not self.decoder.built:
            self.decoder.build(inputs_shape=inputs_shape)

    def get_build_config(self):
        """Return what the weights of the decoder depend on."""
        return self.decoder.get_build_config()

    def build_from_config(self, config):
        """Create the weights of a saved decoder."""
        if not self.decoder.built:
            self.decoder.build_from_config(config)
        self.built = True

    def call(self, inputs=None, initial_state=None, mask=None):
        """Return the best tokens, or the best ones and their scores."""
        steps = self._steps(inputs, initial_state)
        decoder, by_step = self.decoder, is_sequence(inputs)
        batch = ops.shape(keras.tree.flatten(initial_state if inputs is None else inputs)[0])[0]
        steps = ops.shape(inputs)[1] if by_step else steps

        def step(tokens, states, t):
            now = ops.take(inputs, t, axis=1) if by_step else inputs
            now = None if now is None else ops.repeat(now, self.beam_width, axis=0)
            logits, states = decoder.step(tokens, states, now)
            return ops.log_softmax(ops.cast(logits, "float32"), axis=-1), states

        tokens, scores = beam_search(
            step,
            decoder.first_states(initial_state, batch),
            decoder.first_fed(batch),
            steps,
            decoder.vocabulary_size,
            self.beam_width,
            end=decoder.end_token,
            pad=decoder.padding or 0,
            alpha=self.length_penalty,
            counts=decoder.step_mask(inputs, None, mask),
        )
        return (tokens, scores) if self.return_beams else tokens[:, 0]

    def _steps(self, inputs, initial_state):
        """Check the arguments; return the number of steps, None if it is unknown."""
        owner = type(self).__name__
        steps = self.max_length or self.decoder.max_length
        check_arguments(self.decoder, inputs, None, initial_state, max_length=steps)
        if is_sequence(inputs):
            steps = inputs.shape[1]
        if steps is not None:
            # The power itself may be huge, and this one is more than the width if it is not the whole.
            sequences = self.decoder.vocabulary_size ** min(steps, self.beam_width.bit_length())
            rule = "beam_width <= vocabulary_size ** steps"
            expect(self.beam_width <= sequences, owner, rule, beam_width=self.beam_width, sequences=sequences)
        return steps

    def compute_output_spec(self, inputs=None, initial_state=None, mask=None):
        """Check the arguments, as `call` does, and return the shapes and dtypes of what it returns."""
        self._steps(inputs, initial_state)
        tensors = [None if x is None else keras.tree.flatten(x)[0] for x in (inputs, initial_state)]
        shape = self.compute_output_shape(*(None if x is None else tuple(x.shape) for x in tensors))
        if not self.return_beams:
            return keras.KerasTensor(shape, dtype="int32")
        return keras.KerasTensor(shape[0], dtype="int32"), keras.KerasTensor(shape[1], dtype="float32")

    def compute_output_shape(self, inputs_shape=None, initial_state_shape=None):
        """Return (batch, steps); with `return_beams` those of all tokens and of the scores."""
        batch, steps, _ = self.decoder.compute_output_shape(inputs_shape, None, initial_state_shape)
        if self.max_length is not None and (inputs_shape is None or len(inputs_shape) == 2):
            steps = self.max_length
        return ((batch, self.beam_width, steps), (batch, self.beam_width)) if self.return_beams else (batch, steps)

    def compute_mask(self, inputs, previous_mask):
        """Return nothing: tokens are read as they are."""

    def get_config(self):
        """Return the constructor arguments."""
        names = ("beam_width", "length_penalty", "max_length", "return_beams")
        decoder = keras.saving.serialize_keras_object(self.decoder)
        return {**super().get_config(), "decoder": decoder, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        """Make the layer and its decoder."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("decoder")), **config)
