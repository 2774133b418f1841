"""Predictions with the noise of training: their mean, and how much they differ."""

import contextlib
import dataclasses
import math

import keras
import numpy as np
from keras import ops, tree

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_seed
from keras_kicks._layer_tree import all_layers
from keras_kicks.models.rounds import in_rounds
from keras_kicks.models.stochastic_layers import draws_for_each_row, others_in_inference, own_draws, stochastic_layers
from keras_kicks.models.symbolic_graph import split_before
from keras_kicks.ops.keras_mask import get_mask, set_mask

# Numbers of the inputs of what is computed at a time, where more samples of a batch would not be faster.
AT_A_TIME = 2**20
# Of a dimension that is unknown before.
SOME = 64


@dataclasses.dataclass(frozen=True)
class MonteCarloPrediction:
    """What `monte_carlo_predict` returns: NumPy arrays, in the structure of the model's outputs.

    Args:
        mean: Mean over the samples, of shape (rows, ...).
        standard_deviation: Standard deviation of the samples (the root of the unbiased variance), likewise.
        predictive_entropy: Entropy in nats of the mean class probabilities: the uncertainty in all; None without
            `classes`.
        expected_entropy: Mean of the entropies of the samples: the part that the data have; None likewise.
        samples: All samples, of shape (samples, rows, ...), or None.
    """

    mean: object
    standard_deviation: object
    predictive_entropy: object = None
    expected_entropy: object = None
    samples: object = None

    @property
    def mutual_information(self):
        """Difference of the two entropies, >= 0: the part that the weights have (BALD); None without `classes`."""
        if self.predictive_entropy is None:
            return None
        # Not below zero by rounding.
        return tree.map_structure(
            lambda whole, own: np.maximum(whole - own, 0), self.predictive_entropy, self.expected_entropy
        )


def monte_carlo_predict(
    model,
    x,
    samples=32,
    batch_size=None,
    classes=None,
    layers=None,
    keep_samples=False,
    seed=None,
    samples_at_once=None,
    steps=None,
    verbose=0,
):
    """Predict many times, with layers that draw as in training, and return mean and spread.

        mean = 1/S sum_s f(x; m_s),    variance = 1/(S - 1) sum_s (f(x; m_s) - mean)^2,    m_s: the draws of sample s

    All other layers, such as BatchNormalization, are in inference mode. What comes before the first layer that draws is
    computed once. The samples are computed side by side where each row has draws of its own, and one after the other
    where the rows of a batch share them (DropConnect, recurrent_dropconnect, a noise_shape that begins with a number,
    layers of one's own). Afterwards the model is as it was, its random states included.

    Args:
        model: A built Keras model.
        x: What `model.predict` takes: an array, a list or dict of them, a `tf.data.Dataset`, ....
        samples: Number of predictions, >= 2.
        batch_size: Rows of `x` at a time, >= 1; 32 if None.
        classes: None for outputs that are no probabilities of classes, "probabilities" or "logits" (their softmax is
            what mean and spread are of) over the last axis, or of one class of two where that is of length 1.
        layers: None for Dropout of every kind, DropConnect, RReLU, and recurrent and attention layers with dropout; or
            a sequence of layers, their names or classes. Those within them draw, too.
        keep_samples: Whether to return every prediction.
        seed: None, or an integer for the same draws in every call.
        samples_at_once: Samples of a batch to compute side by side, >= 1; None for as many as keep the inputs of the
            part that draws to a million numbers.
        steps: Number of batches of an endless `x`, or None.
        verbose: As of `model.predict`.

    Returns:
        A `MonteCarloPrediction`, at least in float32.

    Raises:
        TypeError: `model` is no Keras model; `samples`, `batch_size`, `samples_at_once` or `seed` is no integer.
        ValueError: expected samples >= 2; batch_size >= 1; samples_at_once >= 1; a known kind of classes; at least
            one row; a built model; one without stateful recurrent layers; with layers that draw in training; layers of
            the model, whose call has the argument training.

    Source:
        Gal and Ghahramani 2016, arXiv:1506.02142; entropies: Houlsby, Huszar, Ghahramani and Lengyel 2011,
        arXiv:1112.5745.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        >>> prediction = monte_carlo_predict(model, np.ones((3, 4)), samples=100, seed=0)
        >>> prediction.mean.shape, bool((prediction.standard_deviation > 0).all())
        ((3, 1), True)
    """
    owner = "monte_carlo_predict"
    expect(isinstance(model, keras.Model), owner, "a keras model", error=TypeError, model=model)
    expect_integer(owner, samples=samples)
    expect(samples >= 2, owner, "samples >= 2", samples=samples)
    for name, value in {"batch_size": batch_size, "samples_at_once": samples_at_once}.items():
        if value is not None:
            expect_integer(owner, **{name: value})
            expect(value >= 1, owner, f"{name} >= 1", **{name: value})
    expect_choice(owner, (None, "probabilities", "logits"), classes=classes)
    expect_seed(owner, seed)
    expect(model.built, owner, "a built model", "Call it on some inputs before.", model=model.name)
    counts = {x.shape[0] for x in tree.flatten(x) if getattr(x, "shape", None)}
    expect(0 not in counts, owner, "at least one row", rows=0)
    stateful = [layer.name for layer in all_layers(model) if getattr(layer, "stateful", False)]
    rule = "a model without stateful recurrent layers"
    expect(not stateful, owner, rule, "Its samples would follow each other.", stateful=stateful)
    chosen = stochastic_layers(owner, model, layers)
    with _scope(model):
        sampler = _Sampler(model, chosen, samples, samples_at_once, classes, keep_samples)
    with own_draws(model, chosen, seed), others_in_inference(model, chosen), _kept_by_jax(sampler):
        found = sampler.predict(x, batch_size=batch_size, steps=steps, verbose=verbose)
    if keep_samples:
        found["samples"] = tree.map_structure(lambda y: np.moveaxis(y, 1, 0), found["samples"])
    return MonteCarloPrediction(**found)


class _Sampler(keras.Model):
    """Predicts the statistics of the samples of a model; `predict` sees to batches, replicas and compilation."""

    def __init__(self, model, chosen, samples, samples_at_once, classes, keep_samples):
        super().__init__(name=f"{model.name}_samples", dtype=model.dtype_policy)
        self.autocast = False
        self.model = model
        self.samples = samples
        self.samples_at_once = samples_at_once
        self.classes = classes
        self.keep_samples = keep_samples
        self.run_eagerly = model.run_eagerly
        self.jit_compile = model.jit_compile
        self.built = True
        chosen_ids = {id(layer) for layer in chosen}
        parts = split_before(model, lambda part: _holds(part, chosen_ids))
        # Within a function, since these share the layers of the model, which has them already.
        self.parts = (lambda: parts) if parts else (lambda: (_unchanged, model))
        fixed = any(tensor.shape[0] is not None for tensor in getattr(model, "inputs", None) or [])
        self.side_by_side = not fixed and all(draws_for_each_row(layer) for layer in chosen)

    def call(self, inputs):
        """Return the statistics, each of shape (batch, ...)."""
        before, behind = self.parts()
        edge = before(inputs, training=True)
        together = self._together(tree.flatten(edge)) if self.side_by_side else 1
        structure = []

        def draw():
            """Return the flat outputs of some samples, each of shape (together, batch, ...)."""
            y = behind(tree.map_structure(lambda part: _copies(part, together), edge), training=True)
            structure[:] = [y]
            return [ops.reshape(part, (together, -1, *ops.shape(part)[1:])) for part in tree.flatten(y)]

        drawn = [self._probabilities(_wide(part)) for part in self._repeated(draw, together)]
        statistics = {
            "mean": [_mean(part) for part in drawn],
            "standard_deviation": [_standard_deviation(part, self.samples) for part in drawn],
        }
        if self.classes:
            statistics["predictive_entropy"] = [_entropy(_mean(part)) for part in drawn]
            statistics["expected_entropy"] = [ops.mean(_entropy(part), axis=0) for part in drawn]
        if self.keep_samples:
            statistics["samples"] = [ops.moveaxis(part, 0, 1) for part in drawn]
        return {name: tree.pack_sequence_as(structure[0], values) for name, values in statistics.items()}

    def _repeated(self, draw, together):
        """Return what calls of `draw` return, one after the other along the first axis, as many as samples."""
        rounds = math.ceil(self.samples / together)
        if rounds == 1:
            return draw()
        parts = in_rounds(draw, rounds, self.model)
        return [ops.reshape(part, (-1, *ops.shape(part)[2:]))[: self.samples] for part in parts]

    def _together(self, edge):
        """Return how many samples to compute side by side."""
        if self.samples_at_once is not None:
            return min(self.samples_at_once, self.samples)
        numbers = sum(math.prod(SOME if size is None else size for size in part.shape) for part in edge)
        rounds = math.ceil(self.samples / max(1, AT_A_TIME // max(1, numbers)))
        return math.ceil(self.samples / rounds)

    def _probabilities(self, y):
        if self.classes != "logits":
            return y
        return ops.sigmoid(y) if y.shape[-1] == 1 else ops.softmax(y, axis=-1)


def _holds(part, chosen_ids):
    return isinstance(part, keras.layers.Layer) and any(id(layer) in chosen_ids for layer in all_layers(part))


def _unchanged(inputs, training):
    return inputs


def _scope(model):
    """Return the context in which the variables of a model are mirrored as those of the model are."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


@contextlib.contextmanager
def _kept_by_jax(sampler):
    """Give the variables their values back if `predict` fails: on JAX Keras has taken them out of the model."""
    if keras.backend.backend() != "jax":
        yield
        return
    held = [(v, v.value) for v in sampler.variables]
    try:
        yield
    except BaseException:
        for variable, value in held:
            if not value.is_deleted():
                variable.assign(value)
        sampler.jax_state_sync()
        raise


def _copies(x, count):
    """Return `count` copies of a batch, one after the other, with their masks; as it is if it has no batch axis."""
    if count == 1 or x is None:
        return x
    y = ops.reshape(ops.broadcast_to(x[None], (count, *ops.shape(x))), (-1, *ops.shape(x)[1:]))
    mask = get_mask(x)
    return y if mask is None else set_mask(y, _copies(mask, count))


def _wide(y):
    floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(y.dtype))
    return ops.cast(y, keras.backend.result_type(y.dtype, "float32") if floating else "float32")


def _mean(y):
    # From the first sample, so that what does not vary is exact.
    return y[0] + ops.mean(y - y[:1], axis=0)


def _standard_deviation(y, samples):
    y = y - y[:1]
    return ops.sqrt(ops.sum(ops.square(y - ops.mean(y, axis=0)), axis=0) / (samples - 1))


def _entropy(p):
    """Return the entropy over the last axis, or of one class of two."""
    if p.shape[-1] == 1:
        p = ops.concatenate([p, 1 - p], axis=-1)
    tiny = np.finfo("float32").tiny
    return -ops.sum(p * ops.log(ops.maximum(p, tiny)), axis=-1)
