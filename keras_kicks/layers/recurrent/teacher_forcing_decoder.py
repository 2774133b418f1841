"""A decoder of tokens that is trained on labels and runs on its own predictions."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.layers.recurrent.feedback_decoder import FeedbackDecoder

# The logit of what cannot be: its probability is 0 in every dtype, and it is finite in float16.
IMPOSSIBLE = -1e4


@keras.saving.register_keras_serializable(package="keras_kicks")
class TeacherForcingDecoder(FeedbackDecoder):
    """Predicts tokens one after the other: from the labels before them if it has them, else from its own predictions.

        h_t = cell([e(u_{t-1}), x_t], h_{t-1}),   logits_t = W h_t + b
        u_t = y_t                    with labels: teacher forcing, all steps at once
        u_t = argmax logits_t        without labels: free running, step by step
        u_t = y_t or its own         with labels in training, under scheduled sampling

    The output of step t is the prediction of label t; the decoder shifts the labels itself. With a layer that is no
    recurrent cell, such as `keras.layers.Dense`, the label before takes the place of the hidden state before: an
    output-recurrent network, which trains all steps in one product.

    One layer serves two models. That to train has the labels as an input and as targets; `evaluate` gives the
    teacher-forced loss. That to predict with shares the weights and runs freely, and so do metrics compiled with it:

        to_train = keras.Model([source, labels], decoder(labels=labels, initial_state=states))
        to_predict = keras.Model(source, decoder(initial_state=states))

    For tokens, greedy or by beam search, call `BeamSearchDecoder(decoder)` in its place.

    Scheduled sampling draws, for each step of each sample, whether the label is fed back, with the probability
    `teacher_forcing_ratio`, a variable that `keras_kicks.callbacks.ScheduledSampling` lowers in training. Own
    predictions are those of inference (without dropout) after what was fed back before. They are found in a loop
    without gradients, and the training pass is that of teacher forcing.

    Args:
        cell: A recurrent cell, a list of cells, or a layer from (batch, features) to (batch, units).
        vocabulary_size: Number of tokens, >= 1.
        embedding_dim: Width of the embeddings of what is fed back; None for one-hot vectors.
        start_token: The token before the first step; None for one of its own, outside of the vocabulary.
        end_token: The token after which, running freely, only padding is predicted; None for none.
        pad_token: The label that marks steps which do not count, and the padding after an end_token; None if all
            count, and end_token is the padding.
        max_length: Steps of a free run without inputs of shape (batch, steps, features).
        scheduled_sampling: None, or what is fed back of an own prediction in training: "argmax", or "sample", a token
            drawn from the softmax.
        teacher_forcing_ratio: Probability of the label under scheduled sampling to begin with, in [0, 1].
        seed: None or an integer.
        **kwargs: Base layer arguments, such as `name`; the dtype policy is by default that of the cell.

    Call arguments:
        inputs: Shape (batch, steps, features), what besides the fed-back token each step sees; shape
            (batch, features), the same in all steps; or None.
        labels: Integers of shape (batch, steps), in [0, vocabulary_size); or None to run freely.
        initial_state: The state of the cell or the list of its states before the first step; zeros by default.
        mask: Boolean, shape (batch, steps), the steps that count; or None.
        training: Whether to train, which needs labels.

    Returns:
        Logits of shape (batch, steps, vocabulary_size), in the compute dtype. After an end_token of its own the decoder
        is certain of the padding: a cross-entropy there is 0 or huge, so that accuracies measure free runs better.

    Raises:
        TypeError: `cell` is no layer, a token, a length or the seed no integer, labels are not integers.
        ValueError: expected vocabulary_size >= 1; embedding_dim >= 1; tokens in [0, vocabulary_size); max_length >= 1,
            and one for a free run without steps; scheduled_sampling to be one of None, "argmax", "sample";
            0 <= teacher_forcing_ratio <= 1, and 1 without scheduled_sampling; labels in training; labels of shape
            (batch, steps); inputs of as many steps, and always of the same width or never; an initial_state of the
            sizes of the cell.

    Masking:
        Steps count unless the mask of the inputs or of the labels, `mask` or the pad_token says otherwise; the output
        has that mask. Other steps are passed over: the states, and what is fed back, are those of the last step that
        counts.

    Source:
        Williams and Zipser 1989. Output-recurrent networks: Goodfellow, Bengio and Courville 2016, section 10.2.1.
        Scheduled sampling: Bengio et al. 2015, arXiv:1506.03099. Departure: own predictions in training are made
        without dropout, as in inference.

    Example:
        >>> import numpy as np
        >>> encoder = keras.layers.LSTM(8, return_state=True)
        >>> decoder = TeacherForcingDecoder(keras.layers.LSTMCell(8), vocabulary_size=5, max_length=4)
        >>> source, labels = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
        >>> _, *states = encoder(source)
        >>> to_train = keras.Model([source, labels], decoder(labels=labels, initial_state=states))
        >>> to_predict = keras.Model(source, decoder(initial_state=states))
        >>> to_train.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> x, y = np.ones((6, 7, 3)), np.ones((6, 4), "int32")
        >>> history = to_train.fit([x, y], y, verbose=0)
        >>> to_predict.predict(x, verbose=0).shape
        (6, 4, 5)
    """

    def __init__(
        self,
        cell,
        vocabulary_size,
        embedding_dim=None,
        start_token=None,
        end_token=None,
        pad_token=None,
        max_length=None,
        scheduled_sampling=None,
        teacher_forcing_ratio=1.0,
        seed=None,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_integer(owner, vocabulary_size=vocabulary_size)
        expect(vocabulary_size >= 1, owner, "vocabulary_size >= 1", vocabulary_size=vocabulary_size)
        if embedding_dim is not None:
            expect_integer(owner, "Pass None for one-hot vectors.", embedding_dim=embedding_dim)
            expect(embedding_dim >= 1, owner, "embedding_dim >= 1", embedding_dim=embedding_dim)
        for name, token in (("start_token", start_token), ("end_token", end_token), ("pad_token", pad_token)):
            if token is not None:
                expect_integer(owner, **{name: token})
                rule = f"{name} in [0, vocabulary_size)"
                expect(0 <= token < vocabulary_size, owner, rule, **{name: token, "vocabulary_size": vocabulary_size})
        expect_choice(owner, (None, "argmax", "sample"), scheduled_sampling=scheduled_sampling)
        super().__init__(cell, vocabulary_size, max_length, scheduled_sampling, teacher_forcing_ratio, seed, **kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.start_token, self.end_token, self.pad_token = start_token, end_token, pad_token
        # The start that is no token of the vocabulary is the one after the last.
        self.symbols = vocabulary_size + (start_token is None)
        self.embedding = None
        if embedding_dim is not None:
            self.embedding = keras.layers.Embedding(
                self.symbols, embedding_dim, dtype=self.dtype_policy, name="embedding"
            )

    @property
    def padding(self):
        """The token that follows an end_token."""
        return self.end_token if self.pad_token is None else self.pad_token

    def build_encoder(self):
        """Create the embeddings; return the width of what stands for a token."""
        if self.embedding is None:
            return self.symbols
        self.embedding.build((None, None))
        return self.embedding_dim

    def encode(self, fed):
        """Return the vectors of tokens."""
        if self.embedding is None:
            return ops.one_hot(fed, self.symbols, dtype=self.compute_dtype)
        return self.embedding(fed)

    def first_fed(self, batch):
        """Return the token before the first step."""
        token = self.vocabulary_size if self.start_token is None else self.start_token
        return ops.full((batch,), token, dtype="int32")

    def own_fed(self, outputs, draw):
        """Return the token to feed back, given a number in (0, 1) for each sample."""
        if self.scheduled_sampling == "argmax":
            return ops.cast(ops.argmax(outputs, axis=-1), "int32")
        # The inverse of the distribution function: the first token at which it exceeds the draw.
        total = ops.cumsum(ops.softmax(ops.cast(outputs, "float32"), axis=-1), axis=-1)
        passed = total <= ops.expand_dims(draw, -1) * total[:, -1:]
        return ops.minimum(ops.sum(ops.cast(passed, "int32"), axis=-1), self.vocabulary_size - 1)

    def emit(self, outputs, ended):
        """Return the logits of a free run, their argmax, and which samples have ended."""
        if self.end_token is not None:
            certain = ops.where(ops.arange(self.vocabulary_size) == self.padding, 0.0, IMPOSSIBLE)
            outputs = ops.where(ops.expand_dims(ended, -1), ops.cast(certain, outputs.dtype), outputs)
        own = ops.cast(ops.argmax(outputs, axis=-1), "int32")
        return outputs, own, ended if self.end_token is None else ops.logical_or(ended, own == self.end_token)

    def label_masks(self, labels):
        """Labels do not count where they are masked or padding."""
        masks = super().label_masks(labels)
        return masks if labels is None or self.pad_token is None else [*masks, labels != self.pad_token]

    def check_labels(self, labels):
        """Raise unless labels are integers of shape (batch, steps)."""
        owner, shape = type(self).__name__, tuple(labels.shape)
        dtype = keras.backend.standardize_dtype(labels.dtype)
        remedy = 'Pass keras.Input((None,), dtype="int32") or an array of integers.'
        expect("int" in dtype, owner, "integers for labels", remedy, TypeError, labels=dtype)
        expect(len(shape) == 2, owner, "labels of shape (batch, steps)", labels_shape=shape)

    def get_config(self):
        """Return the constructor arguments."""
        names = ("vocabulary_size", "embedding_dim", "start_token", "end_token", "pad_token")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
