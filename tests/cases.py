"""The table of components: one case or more for every public name, and what each of them declares."""

import dataclasses
import inspect
from collections.abc import Callable

import keras
import numpy as np

import keras_kicks as kk


@dataclasses.dataclass(frozen=True)
class Case:
    """One component in one setting.

    Attributes:
        make: Function of a dtype policy, or None for the global one, that returns a new component. Two calls after
            the same seed give the same weights and draws.
        inputs: Function that returns the arguments of a call as NumPy arrays.
        kind: "layer", "cell" (of a recurrent layer), "loss", "metric", "regularizer", "constraint", "function",
            "model", "callback", "tool" (of models and files) or "base".
        public: The public object that the case is for.
        mask: What becomes of the mask of a layer's first input: "passed", "dropped", "destroyed" (with a warning of
            Keras) or, for losses, "consumed".
        free: Axes of the inputs besides the first whose length may be unknown.
        labels: Function of the first input that returns the labels of a model; class ids of samples by default.
        double: Whether the component computes in float64 if asked to.
        skips: Reasons by the name of a check.
    """

    make: Callable
    inputs: Callable
    kind: str
    public: object
    mask: str = "passed"
    free: tuple = ()
    labels: Callable | None = None
    double: bool = True
    skips: dict = dataclasses.field(default_factory=dict)


def normal(*shape):
    """Return standard normal numbers, the same in every call."""
    return np.random.default_rng(7).normal(size=shape).astype("float32")


def ids(classes, *shape):
    """Return class ids, the same in every call."""
    return np.random.default_rng(11).integers(0, classes, size=shape).astype("int32")


OWN_DRAWS = "Replicas draw numbers of their own, which no step on one device has; the component's file tests them."
NOISE_OF_BATCH = "The noise is a function of all predictions of a batch: other predictions, other noise."
MEAN_OF_REPLICA = "The mean is over the counted samples of a replica, as Keras takes it for masked losses."
CALLBACK = "A callback has no values and no config: what it observes is tested in tests/callbacks."
REPORT = "It holds numbers that a callback has found: tests/callbacks has what it makes of them."
RULE = "It works on the numbers that a training shows it: tests/callbacks has what it makes of them."
TOOL = "It works on whole models or files, not on tensors: what it does to them is tested in tests/compression."
DATASET = "It makes NumPy arrays: what they are is tested in tests/datasets."
APPROXIMATOR = "It returns a model of Keras's layers: what it computes is tested in tests/models/test_approximators.py."
DIAGNOSTIC = "It measures a model and returns NumPy arrays: these are tested in tests/diagnostics."
OTHER_TOKEN = "A rounded logit may choose another token, and all that follows is another."
NO_GRADIENT_BACK = "Own outputs that are fed back carry no gradient, and a difference quotient has it."
TOKENS = "It returns tokens, which have no gradient and are not rounded; its file tests it."
TENSORFLOW_ONLY = "It needs the TensorFlow backend, and says so: its file tests it there."
SAMPLED = "It measures a model and returns NumPy arrays: tests/models has what these are."
ESTIMATOR = "An estimator of scikit-learn: its file runs scikit-learn's own checks."
MODELS = "It changes the statistics of a model: tests/optimizers has it."
OPTIMIZER = "An optimizer has no values: what it owes is a table of its own, tests/optimizers/table.py."
SCHEDULE = "A number for each step: tests/optimizers has its rates, its config, and a chain that is saved with it."
CELLS = "It puts cells together, which the table has: its file tests the result."
BASE = "An abstract class: its subclasses are in the table."

L, S = kk.layers, kk.losses
INF = float("inf")


def _layer(make, *shape, **declared):
    return Case(make, lambda: (normal(*shape),), "layer", **declared)


def _drop(make, *shape, **declared):
    """A case for DropConnect around the layer that `make` returns."""

    def wrapped(dtype, **kwargs):
        return L.DropConnect(make(dtype), 0.4, seed=3, **kwargs)

    arguments = declared.pop("arguments", {})
    return _layer(lambda dtype: wrapped(dtype, **arguments), *shape, public=L.DropConnect, **declared)


def _gated(make, *shape, weight=1e-2, arguments=None, **declared):
    """A case for L0 around the layer that `make` returns."""
    arguments = {"drop_rate": 0.4, "seed": 3, **(arguments or {})}
    return _layer(lambda dtype: L.L0(make(dtype), weight, **arguments), *shape, public=L.L0, **declared)


def _cell(make, public, **declared):
    return Case(make, lambda: (normal(4, 5, 6),), "cell", public, free=(1,), **declared)


def _recurrent(make, public, **declared):
    return _layer(make, 4, 5, 6, public=public, free=(1,), **declared)


def _smoothing(classes=5, one_hot=False, double=True, skips=None, **arguments):
    def inputs():
        labels = ids(classes, 8)
        return (np.eye(classes, dtype="float32")[labels] if one_hot else labels), normal(8, classes)

    return Case(
        lambda dtype: S.LabelSmoothingCrossentropy(dtype=dtype, **arguments),
        inputs,
        "loss",
        S.LabelSmoothingCrossentropy,
        mask="consumed",
        double=double,
        skips=skips or {},
    )


def _distillation(make, public, teacher, student, activation=None):
    def inputs():
        values = normal(*teacher), normal(*student)[::-1].copy()
        return values if activation is None else tuple(activation(value) for value in values)

    return Case(make, inputs, "layer", public, mask="dropped", double=False)


def softmax(x):
    """Return probabilities."""
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def _distiller(dtype):
    def model(width, name):
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(width, activation="tanh", name="features", kernel_regularizer="l2", dtype=dtype),
                keras.layers.Dense(3, dtype=dtype),
            ],
            name=name,
        )

    losses = [S.LogitsDistillation(2.0), S.FeatureDistillation("mse", "features", "features")]
    distiller = kk.models.Distiller(model(8, "teacher"), model(4, "student"), losses, [1.0, 0.5])
    distiller.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return distiller


def _tied(make, tied_to, *shape, **declared):
    """A case for a layer with the kernel of `tied_to`, a layer without a bias, since that has no gradient here."""

    def tied(dtype):
        other, built_for = tied_to(dtype)
        other.build(built_for)
        return make(other, dtype)

    return _layer(tied, *shape, **declared)


def _penalty(public, **arguments):
    """A case for a regularizer of a kernel."""
    return Case(lambda dtype: public(weight=0.3, **arguments), lambda: (normal(4, 3),), "regularizer", public)


def _constraint(make):
    """A case for a constraint of a kernel."""
    return Case(lambda dtype: make(), lambda: (normal(4, 3),), "constraint", type(make()))


def _tying(mode):
    """A case for a regularizer that ties a kernel to that of another layer, or to what it was."""

    def make(dtype):
        other = keras.layers.Dense(3, use_bias=False, name="other", dtype=dtype)
        other.build((None, 4))
        return kk.regularizers.ParameterTying(other, 0.3, mode=mode)

    return Case(make, lambda: (normal(4, 3),), "regularizer", kk.regularizers.ParameterTying)


def _tied_model(**arguments):
    def make(dtype):
        def model():
            layers = [keras.layers.Dense(5, "tanh", dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
            return keras.Sequential([keras.Input((6,)), *layers])

        tied = kk.models.TiedModel(model(), kk.regularizers.ParameterTying(model(), 0.3, **arguments))
        tied.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return tied

    return Case(make, lambda: (normal(8, 6),), "model", kk.models.TiedModel, mask="dropped")


def _sharpness_aware(dtype):
    layers = [keras.layers.Dense(5, "tanh", dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
    model = kk.models.SharpnessAware(keras.Sequential([keras.Input((6,)), *layers]), 0.1)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _boosting(algorithm, **arguments):
    """A case for boosting that has two members of four."""
    classes = 3 if algorithm.startswith("samme") else None

    def make(dtype):
        model = kk.models.Boosting(lambda: kk.models.DecisionStump(classes, dtype=dtype), 4, algorithm, **arguments)
        model.compile()
        x = normal(30, 6)
        y = np.digitize(x[:, 0] + x[:, 1] * x[:, 2], [-0.5, 0.5])
        model.fit(x, y, rounds=2, verbose=0)
        return model

    return Case(make, lambda: (normal(8, 6),), "model", kk.models.Boosting, mask="dropped")


def _stump(classes):
    def make(dtype):
        stump = kk.models.DecisionStump(classes, dtype=dtype)
        x = normal(8, 6)[::-1]
        stump.fit(x, (np.arange(8) % 4) // 2)
        return stump

    return Case(make, lambda: (normal(8, 6),), "model", kk.models.DecisionStump, mask="dropped")


def _bagging(*layers, **arguments):
    """A case for Bagging of small classifiers, with these layers in the middle."""

    def build(dtype):
        dense = [keras.layers.Dense(n, dtype=dtype) for n in (5, 3)]
        return keras.Sequential([keras.Input((6,)), dense[0], *(make(dtype) for make in layers), dense[1]])

    def make(dtype):
        model = kk.models.Bagging(lambda: build(dtype), 3, from_logits=True, seed=2, **arguments)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    skips = {} if keras.backend.backend() == "tensorflow" else {"every": TENSORFLOW_ONLY}
    return Case(make, lambda: (normal(8, 6),), "model", kk.models.Bagging, mask="dropped", skips=skips)


def _truncated(dtype):
    layers = [L.GRU(4, return_sequences=True, dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
    model = kk.models.TruncatedBPTT(keras.Sequential([keras.Input((None, 5)), *layers]), 2, 4, updates="sequence")
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _tree(make, arity, **declared):
    """A case for a recursive layer: four trees of seven nodes, in one of which a child is missing."""

    def inputs():
        children = np.full((4, 7, arity), -1)
        children[0, 4:, :2] = [[0, 1], [2, 3], [4, 5]]
        children[1, 1:, 0] = range(6)
        children[2, 3, :3] = [0, 1, 2]
        children[2, 6, :3] = [5, -1, 3]
        children[2, 5, 1] = 4
        children[3, 5:, :3] = [[0, 1, 2], [3, 4, 5]]
        return normal(4, 7, 4), kk.datasets.tree_topology(children)

    return Case(make, inputs, "layer", **declared)


def _likelihood(make, public, targets, outputs):
    """A case for a loss of numbers."""
    return Case(
        make,
        lambda: (normal(8, targets), normal(8, outputs)[::-1].copy()),
        "loss",
        public,
        mask="consumed",
        double=False,
    )


def _head(task, *arguments, **keywords):
    return _layer(
        lambda dtype: L.OutputHead(task, *arguments, dtype=dtype, **keywords), 4, 5, 6, public=L.OutputHead, free=(1,)
    )


CASES = {
    "RReLU": _layer(
        lambda dtype: L.RReLU(0.1, 0.4, seed=5, dtype=dtype),
        4,
        6,
        3,
        public=L.RReLU,
        free=(1, 2),
        skips={"replicas": OWN_DRAWS},
    ),
    "RReLU-one-slope": _layer(lambda dtype: L.RReLU(0.2, 0.2, dtype=dtype), 4, 6, 3, public=L.RReLU, free=(1, 2)),
    "Maxout": _layer(lambda dtype: L.Maxout(3, dtype=dtype), 4, 5, 6, public=L.Maxout, free=(1,)),
    "Maxout-strided": _layer(
        lambda dtype: L.Maxout(3, grouping="strided", dtype=dtype), 4, 5, 6, public=L.Maxout, free=(1,)
    ),
    "Maxout-axis": _layer(lambda dtype: L.Maxout(2, axis=1, dtype=dtype), 4, 6, 5, 3, public=L.Maxout, free=(2, 3)),
    "MaxoutDense": _layer(
        lambda dtype: L.MaxoutDense(4, 3, kernel_regularizer="l2", bias_initializer="normal", dtype=dtype),
        4,
        5,
        6,
        public=L.MaxoutDense,
        free=(1,),
    ),
    "MaxoutDense-tanh": _layer(
        lambda dtype: L.MaxoutDense(2, 2, activation="tanh", use_bias=False, kernel_constraint="non_neg", dtype=dtype),
        4,
        6,
        public=L.MaxoutDense,
    ),
    "OutputHead-regression": _head("regression", 2),
    "OutputHead-known-variance": _head("regression", variance=0.5, use_bias=False),
    "OutputHead-multiclass": _head("multiclass", 3, kernel_regularizer="l2"),
    "OutputHead-multilabel": _head("multilabel", 3, sparse=False),
    "GaussianNLL": _likelihood(lambda dtype: S.GaussianNLL(dtype=dtype), S.GaussianNLL, 2, 4),
    "GaussianNLL-log": _likelihood(
        lambda dtype: S.GaussianNLL("log", 1e-3, full=True, dtype=dtype), S.GaussianNLL, 1, 2
    ),
    "Pinball": _likelihood(lambda dtype: S.Pinball(0.3, dtype=dtype), S.Pinball, 3, 3),
    "Pinball-several": _likelihood(lambda dtype: S.Pinball([0.1, 0.5, 0.9], dtype=dtype), S.Pinball, 1, 3),
    "GaussianMean": Case(
        lambda dtype: kk.metrics.GaussianMean(keras.metrics.RootMeanSquaredError(), dtype=dtype),
        lambda: (normal(8, 2), normal(8, 4)),
        "metric",
        kk.metrics.GaussianMean,
    ),
    "SymmetricDense": _layer(
        lambda dtype: L.SymmetricDense(
            3, activation="tanh", kernel_regularizer="l2", kernel_constraint="unit_norm", dtype=dtype
        ),
        4,
        5,
        6,
        public=L.SymmetricDense,
        free=(1,),
    ),
    "SymmetricDense-inputs": _layer(
        lambda dtype: L.SymmetricDense(4, axis=0, use_bias=False, dtype=dtype), 4, 5, public=L.SymmetricDense
    ),
    "SymmetricConv1D": _layer(
        lambda dtype: L.SymmetricConv1D(4, 4, padding="causal", kernel_regularizer="l2", dtype=dtype),
        4,
        7,
        3,
        public=L.SymmetricConv1D,
        mask="destroyed",
        free=(1,),
    ),
    "SymmetricConv2D": _layer(
        lambda dtype: L.SymmetricConv2D(4, (2, 3), strides=2, groups=2, padding="same", dtype=dtype),
        4,
        6,
        5,
        2,
        public=L.SymmetricConv2D,
        mask="destroyed",
        free=(1, 2),
    ),
    "SymmetricConv2D-both": _layer(
        lambda dtype: L.SymmetricConv2D(4, 3, axis=[0, 1], activation="tanh", dtype=dtype),
        4,
        6,
        5,
        2,
        public=L.SymmetricConv2D,
        mask="destroyed",
        free=(1, 2),
    ),
    "SymmetricConv3D": _layer(
        lambda dtype: L.SymmetricConv3D(2, 2, use_bias=False, dtype=dtype),
        2,
        4,
        3,
        4,
        3,
        public=L.SymmetricConv3D,
        mask="destroyed",
        free=(1, 2, 3),
    ),
    "TransposedDense": _tied(
        lambda other, dtype: L.TransposedDense(other, "tanh", bias_initializer="normal", dtype=dtype),
        lambda dtype: (keras.layers.Dense(6, use_bias=False, name="encoder", dtype=dtype), (None, 3)),
        4,
        5,
        6,
        public=L.TransposedDense,
        free=(1,),
    ),
    "TransposedConv1D": _tied(
        lambda other, dtype: L.TransposedConv1D(other, output_padding=1, dtype=dtype),
        lambda dtype: (
            keras.layers.Conv1D(4, 3, strides=2, padding="same", use_bias=False, name="encoder", dtype=dtype),
            (None, None, 3),
        ),
        2,
        5,
        4,
        public=L.TransposedConv1D,
        mask="destroyed",
        free=(1,),
    ),
    "TransposedConv2D": _tied(
        lambda other, dtype: L.TransposedConv2D(other, use_bias=False, dtype=dtype),
        lambda dtype: (L.SymmetricConv2D(4, 3, use_bias=False, name="encoder", dtype=dtype), (None, None, None, 3)),
        2,
        5,
        3,
        4,
        public=L.TransposedConv2D,
        mask="destroyed",
        free=(1, 2),
    ),
    "TransposedConv3D": _tied(
        lambda other, dtype: L.TransposedConv3D(other, dtype=dtype),
        lambda dtype: (
            keras.layers.Conv3D(4, 2, strides=2, use_bias=False, name="encoder", dtype=dtype),
            (None, None, None, None, 3),
        ),
        2,
        2,
        3,
        2,
        4,
        public=L.TransposedConv3D,
        mask="destroyed",
        free=(1, 2, 3),
    ),
    "GroupNormalization": _layer(
        lambda dtype: L.GroupNormalization(2, gamma_initializer="normal", dtype=dtype),
        4,
        5,
        3,
        6,
        public=L.GroupNormalization,
        free=(1, 2),
    ),
    "GroupNormalization-channels-first": _layer(
        lambda dtype: L.GroupNormalization(3, axis=1, scale=False, dtype=dtype),
        4,
        6,
        5,
        public=L.GroupNormalization,
        free=(2,),
    ),
    "GroupNormalization-instance": _layer(
        lambda dtype: L.GroupNormalization(-1, center=False, epsilon=1e-5, dtype=dtype),
        4,
        5,
        6,
        public=L.GroupNormalization,
        free=(1,),
    ),
    "DropConnect-Dense": _drop(lambda dtype: keras.layers.Dense(4, dtype=dtype), 4, 5, 6, free=(1,)),
    "DropConnect-Conv1D": _drop(
        lambda dtype: keras.layers.Conv1D(4, 3, activation="tanh", dtype=dtype), 4, 7, 6, mask="destroyed", free=(1,)
    ),
    "DropConnect-Conv2D": _drop(
        lambda dtype: keras.layers.Conv2D(4, 3, padding="same", dtype=dtype), 4, 6, 5, 3, mask="destroyed", free=(1, 2)
    ),
    "DropConnect-Conv3D": _drop(
        lambda dtype: keras.layers.Conv3D(2, 2, dtype=dtype), 2, 4, 3, 4, 3, mask="destroyed", free=(1, 2, 3)
    ),
    "DropConnect-EinsumDense": _drop(
        lambda dtype: keras.layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="e", dtype=dtype),
        4,
        5,
        6,
        mask="destroyed",
    ),
    "DropConnect-LSTM": _drop(
        lambda dtype: keras.layers.LSTM(4, return_sequences=True, dtype=dtype), 4, 5, 6, free=(1,)
    ),
    "DropConnect-sample": _drop(
        lambda dtype: keras.layers.Dense(4, activation="tanh", dtype=dtype),
        4,
        5,
        6,
        arguments={"mask": "sample"},
        free=(1,),
        skips={"replicas": OWN_DRAWS},
    ),
    "DropConnect-gaussian": _drop(
        lambda dtype: keras.layers.Dense(4, activation="relu", dtype=dtype),
        4,
        5,
        6,
        arguments={"inference": "gaussian", "samples": 4},
        free=(1,),
    ),
    "L0-Dense": _gated(lambda dtype: keras.layers.Dense(4, "tanh", dtype=dtype), 4, 5, 6, free=(1,)),
    "L0-Dense-input": _gated(
        lambda dtype: keras.layers.Dense(4, dtype=dtype), 4, 6, arguments={"gates": "input", "l2": 0.1}
    ),
    "L0-Conv1D": _gated(lambda dtype: keras.layers.Conv1D(4, 3, dtype=dtype), 4, 7, 6, mask="destroyed", free=(1,)),
    "L0-Conv2D-output": _gated(
        lambda dtype: keras.layers.Conv2D(4, 3, padding="same", bias_initializer="normal", dtype=dtype),
        4,
        6,
        5,
        3,
        arguments={"gates": "output", "l2": 0.1},
        mask="destroyed",
        free=(1, 2),
    ),
    "L0-Conv3D": _gated(
        lambda dtype: keras.layers.Conv3D(2, 2, dtype=dtype), 2, 4, 3, 4, 3, mask="destroyed", free=(1, 2, 3)
    ),
    "L0-EinsumDense": _gated(
        lambda dtype: keras.layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="e", dtype=dtype),
        4,
        5,
        6,
        mask="destroyed",
    ),
    "L0-LSTM-input": _gated(
        lambda dtype: keras.layers.LSTM(4, return_sequences=True, dtype=dtype),
        4,
        5,
        6,
        arguments={"gates": "input"},
        free=(1,),
    ),
    "VectorNoise": _layer(
        lambda dtype: L.VectorNoise([0.3, 0.0, 0.1], seed=5, dtype=dtype),
        4,
        6,
        3,
        public=L.VectorNoise,
        free=(1,),
        skips={"replicas": OWN_DRAWS},
    ),
    "VectorNoise-uniform": _layer(
        lambda dtype: L.VectorNoise(0.3, "uniform", seed=5, dtype=dtype),
        4,
        6,
        public=L.VectorNoise,
        skips={"replicas": OWN_DRAWS},
    ),
    "SwapNoise": _layer(
        lambda dtype: L.SwapNoise([0.5, 0.0, 0.2], seed=5, dtype=dtype),
        4,
        6,
        3,
        public=L.SwapNoise,
        free=(1,),
        skips={"replicas": OWN_DRAWS},
    ),
    "SequenceScaling": _layer(
        lambda dtype: L.SequenceScaling(0.2, seed=5, dtype=dtype),
        4,
        6,
        3,
        public=L.SequenceScaling,
        free=(1,),
        skips={"replicas": OWN_DRAWS},
    ),
    "TimeMask": _layer(
        lambda dtype: L.TimeMask(3, 2, 0.5, seed=5, dtype=dtype),
        4,
        6,
        3,
        public=L.TimeMask,
        free=(1,),
        skips={"replicas": OWN_DRAWS},
    ),
    "TimeWarp": _layer(
        lambda dtype: L.TimeWarp(0.5, 3, seed=5, dtype=dtype),
        4,
        6,
        3,
        public=L.TimeWarp,
        free=(1,),
        skips={"replicas": OWN_DRAWS},
    ),
    "LSTM": _recurrent(lambda dtype: L.LSTM(4, return_sequences=True, dtype=dtype), L.LSTM),
    "LSTM-coupled": _recurrent(
        lambda dtype: L.LSTM(
            4,
            coupled_gates=True,
            peephole="diagonal",
            peephole_initializer="normal",
            chrono=10,
            recurrent_dropconnect=0.3,
            recurrent_regularizer="l2",
            return_sequences=True,
            seed=2,
            dtype=dtype,
        ),
        L.LSTM,
    ),
    "LSTM-all": _recurrent(
        lambda dtype: L.LSTM(
            4,
            peephole="full",
            peephole_initializer="normal",
            layer_norm=True,
            proj_units=3,
            zoneout=[0.1, 0.2],
            dropout=0.2,
            recurrent_dropout=0.2,
            return_sequences=True,
            seed=2,
            dtype=dtype,
        ),
        L.LSTM,
        skips={"replicas": OWN_DRAWS},
    ),
    "GRU": _recurrent(lambda dtype: L.GRU(4, return_sequences=True, dtype=dtype), L.GRU),
    "GRU-before": _recurrent(
        lambda dtype: L.GRU(
            4, reset_after=False, layer_norm=True, zoneout=0.2, dropout=0.2, return_sequences=True, seed=2, dtype=dtype
        ),
        L.GRU,
        skips={"replicas": OWN_DRAWS},
    ),
    "RNN": _recurrent(
        lambda dtype: L.RNN(
            keras.layers.StackedRNNCells(
                [L.LeakyCell(keras.layers.SimpleRNNCell(3, dtype=dtype), seed=4), L.GRUCell(4, dtype=dtype)],
                dtype=dtype,
            ),
            return_sequences=True,
            dtype=dtype,
        ),
        L.RNN,
    ),
    "LSTMCell": _cell(lambda dtype: L.LSTMCell(4, peephole="diagonal", dtype=dtype), L.LSTMCell),
    "GRUCell": _cell(lambda dtype: L.GRUCell(4, reset_after=False, dtype=dtype), L.GRUCell),
    "LeakyCell": _cell(lambda dtype: L.LeakyCell(L.LSTMCell(4, dtype=dtype), seed=4), L.LeakyCell),
    "LeakyCell-sampled": _cell(
        lambda dtype: L.LeakyCell(keras.layers.GRUCell(4, dtype=dtype), "sampled", seed=4), L.LeakyCell
    ),
    "SkipCell": _cell(lambda dtype: L.SkipCell(L.LSTMCell(4, dtype=dtype), 2), L.SkipCell),
    "SkipCell-dilated": _cell(
        lambda dtype: L.SkipCell(keras.layers.SimpleRNNCell(4, dtype=dtype), 2, last=False), L.SkipCell
    ),
    "DeepTransitionCell": _cell(
        lambda dtype: L.DeepTransitionCell(
            keras.layers.Dense(3, dtype=dtype),
            [keras.layers.Dense(5, "tanh", dtype=dtype), keras.layers.Dense(4, "tanh", dtype=dtype)],
            [keras.layers.Dense(5, "relu", dtype=dtype), keras.layers.Dense(4, dtype=dtype)],
            dtype=dtype,
        ),
        L.DeepTransitionCell,
    ),
    "DeepTransitionCell-LSTM": _cell(
        lambda dtype: L.DeepTransitionCell(
            None, [L.LSTMCell(4, dtype=dtype), keras.layers.Dense(4, "tanh", dtype=dtype)], None, dtype=dtype
        ),
        L.DeepTransitionCell,
    ),
    "TeacherForcingDecoder": Case(
        lambda dtype: L.TeacherForcingDecoder(L.GRUCell(4, dtype=dtype), 5, 3, pad_token=0, dtype=dtype),
        lambda: (normal(4, 5, 6), 1 + ids(4, 4, 5), normal(4, 4)),
        "layer",
        L.TeacherForcingDecoder,
    ),
    "TeacherForcingDecoder-sampling": Case(
        lambda dtype: L.TeacherForcingDecoder(
            [L.GRUCell(4, dtype=dtype)], 5, scheduled_sampling="sample", teacher_forcing_ratio=0.5, seed=2, dtype=dtype
        ),
        lambda: (normal(4, 5, 6), ids(5, 4, 5), normal(4, 4)),
        "layer",
        L.TeacherForcingDecoder,
        skips={"mixed_precision": OTHER_TOKEN, "replicas": OWN_DRAWS},
    ),
    "TeacherForcingDecoder-output-recurrent": Case(
        lambda dtype: L.TeacherForcingDecoder(keras.layers.Dense(4, "tanh", dtype=dtype), 5, 3, dtype=dtype),
        lambda: (normal(4, 5, 6), ids(5, 4, 5)),
        "layer",
        L.TeacherForcingDecoder,
        free=(1,),
    ),
    "TeacherForcingRegressor": Case(
        lambda dtype: L.TeacherForcingRegressor(L.LSTMCell(4, dtype=dtype), 3, dtype=dtype),
        lambda: (normal(4, 5, 6), normal(4, 5, 3)),
        "layer",
        L.TeacherForcingRegressor,
        free=(1,),
    ),
    "TeacherForcingRegressor-sampling": Case(
        lambda dtype: L.TeacherForcingRegressor(
            L.LSTMCell(4, dtype=dtype), 3, scheduled_sampling=True, teacher_forcing_ratio=0.5, seed=2, dtype=dtype
        ),
        lambda: (normal(4, 5, 6), normal(4, 5, 3)),
        "layer",
        L.TeacherForcingRegressor,
        free=(1,),
        skips={"gradient": NO_GRADIENT_BACK, "replicas": OWN_DRAWS},
    ),
    "BeamSearchDecoder": Case(
        lambda dtype: L.BeamSearchDecoder(
            L.TeacherForcingDecoder(L.LSTMCell(4, dtype=dtype), 5, 3, end_token=1, dtype=dtype), 3, length_penalty=0.6
        ),
        lambda: (normal(4, 5, 6),),
        "layer",
        L.BeamSearchDecoder,
        mask="dropped",
        free=(1,),
        skips={"gradient": TOKENS, "mixed_precision": TOKENS, "replicas": TOKENS},
    ),
    "dilated_cells": Case(lambda dtype: None, lambda: (), "tool", L.dilated_cells, skips={"every": CELLS}),
    "TreeRNN": _tree(lambda dtype: L.TreeRNN(3, 3, dtype=dtype), 3, public=L.TreeRNN, mask="dropped"),
    "ChildSumTreeLSTM-nodes": _tree(
        lambda dtype: L.ChildSumTreeLSTM(3, activation="softsign", return_sequences=True, dtype=dtype),
        3,
        public=L.ChildSumTreeLSTM,
    ),
    "ChildSumTreeLSTM-dropout": _tree(
        lambda dtype: L.ChildSumTreeLSTM(3, dropout=0.3, recurrent_dropout=0.3, seed=3, dtype=dtype),
        3,
        public=L.ChildSumTreeLSTM,
        mask="dropped",
        skips={"replicas": OWN_DRAWS},
    ),
    "NaryTreeLSTM": _tree(
        lambda dtype: L.NaryTreeLSTM(3, 3, recurrent_activation="hard_sigmoid", dtype=dtype),
        3,
        public=L.NaryTreeLSTM,
        mask="dropped",
        free=(1,),
    ),
    "LabelSmoothingCrossentropy": _smoothing(alpha=0.2),
    "LabelSmoothingCrossentropy-one-hot": _smoothing(alpha=0.2, one_hot=True),
    "LabelSmoothingCrossentropy-prior": _smoothing(noise="prior", class_prior=[0.5, 0.2, 0.1, 0.1, 0.1]),
    "LabelSmoothingCrossentropy-ignore": _smoothing(
        ignore_class=2,
        skips={
            "replicas": "The mean is over the samples of a replica that count, as Keras takes it for masked losses."
        },
    ),
    "LabelSmoothingCrossentropy-random": _smoothing(
        noise="random",
        seed=1,
        skips={"gradient": NOISE_OF_BATCH, "mask": NOISE_OF_BATCH, "replicas": NOISE_OF_BATCH},
    ),
    "smooth_labels": Case(
        lambda dtype: lambda y: S.smooth_labels(y, alpha=0.2, noise="random", seed=4),
        lambda: (np.eye(5, dtype="float32")[ids(5, 8)],),
        "function",
        S.smooth_labels,
        double=False,
    ),
    "LogitsDistillation": _distillation(
        lambda dtype: S.LogitsDistillation(dtype=dtype or "float32"), S.LogitsDistillation, (8, 5), (8, 5)
    ),
    "LogitsDistillation-schedule": _distillation(
        lambda dtype: S.LogitsDistillation(
            keras.optimizers.schedules.PolynomialDecay(4.0, 10, 1.0), from_logits=False, output=0, teacher_index=0
        ),
        S.LogitsDistillation,
        (8, 5),
        (8, 5),
        activation=softmax,
    ),
    "FeatureDistillation": _distillation(
        lambda dtype: S.FeatureDistillation(dtype=dtype or "float32"), S.FeatureDistillation, (8, 4, 5), (8, 4, 3)
    ),
    "FeatureDistillation-cosine": _distillation(
        lambda dtype: S.FeatureDistillation(keras.losses.CosineSimilarity(), "a", "b", projection="always"),
        S.FeatureDistillation,
        (8, 5),
        (8, 5),
    ),
    "AttentionTransfer": _distillation(
        lambda dtype: S.AttentionTransfer(dtype=dtype or "float32"), S.AttentionTransfer, (8, 6, 6, 3), (8, 3, 3, 5)
    ),
    "RelationalDistillation": _distillation(
        lambda dtype: S.RelationalDistillation(dtype=dtype or "float32"), S.RelationalDistillation, (8, 5), (8, 3)
    ),
    "DistillationLoss": Case(
        lambda dtype: S.DistillationLoss(), lambda: (), "base", S.DistillationLoss, skips={"every": BASE}
    ),
    **{
        f"Lp-{name}": _penalty(kk.regularizers.Lp, p=p, squared=squared)
        for name, p, squared in (("half", 0.5, False), ("3", 3.0, False), ("2-squared", 2.0, True), ("inf", INF, False))
    },
    "Lasso": _penalty(kk.regularizers.Lasso),
    "Ridge": _penalty(kk.regularizers.Ridge),
    "Ridge-squared": _penalty(kk.regularizers.Ridge, squared=True),
    "ElasticNet": _penalty(kk.regularizers.ElasticNet, l1_ratio=0.3),
    "ElasticNet-scikit-learn": _penalty(kk.regularizers.ElasticNet, l1_ratio=0.3, form="scikit-learn"),
    "ParameterTying": _tying("snapshot"),
    "ParameterTying-two-way": _tying("two-way"),
    "L1Ball": _constraint(lambda: kk.constraints.L1Ball(0.8)),
    "L1Ball-axis": _constraint(lambda: kk.constraints.L1Ball(0.5, axis=0)),
    "L2Ball": _constraint(lambda: kk.constraints.L2Ball(0.8)),
    "L2Ball-axes": _constraint(lambda: kk.constraints.L2Ball(0.5, axis=[1])),
    "LinfBall": _constraint(lambda: kk.constraints.LinfBall(0.3)),
    "Symmetric": _constraint(lambda: kk.constraints.Symmetric(0)),
    "Symmetric-axes": _constraint(lambda: kk.constraints.Symmetric([0, -1])),
    "TensorBoard": Case(
        lambda dtype: None, lambda: (), "callback", kk.callbacks.TensorBoard, skips={"every": CALLBACK}
    ),
    "Distiller": Case(
        _distiller,
        lambda: (normal(8, 6),),
        "model",
        kk.models.Distiller,
        mask="dropped",
    ),
    "TiedModel": _tied_model(),
    "TiedModel-squared": _tied_model(squared=True, per_variable=True),
    **{f"Boosting-{name}": _boosting(name, seed=3) for name in ("samme", "samme.r", "r2")},
    "Boosting-gradient": _boosting("gradient", boosting_loss="huber", learning_rate=0.5, subsample=0.8, seed=3),
    **{f"DecisionStump-{name}": _stump(classes) for name, classes in (("classes", 3), ("numbers", None))},
    "SharpnessAware": Case(
        _sharpness_aware,
        lambda: (normal(8, 6),),
        "model",
        kk.models.SharpnessAware,
        mask="dropped",
        skips={} if keras.backend.backend() == "tensorflow" else {"every": TENSORFLOW_ONLY},
    ),
    "Bagging": _bagging(lambda dtype: keras.layers.Activation("tanh", dtype=dtype)),
    "Bagging-side-by-side": _bagging(
        lambda dtype: keras.layers.Reshape((5, 1), dtype=dtype),
        lambda dtype: keras.layers.SimpleRNN(4, dtype=dtype),
        stacked=False,
    ),
    "Bagging-vote": _bagging(combine="vote", bootstrap=0.7),
    **{
        tool.__name__: Case(lambda dtype: None, lambda: (), "tool", tool, skips={"every": ESTIMATOR})
        for tool in (kk.models.KerasClassifier, kk.models.KerasRegressor)
    },
    "TruncatedBPTT": Case(
        _truncated,
        lambda: (normal(4, 7, 5),),
        "model",
        kk.models.TruncatedBPTT,
        mask="dropped",
        labels=lambda x: ids(3, *x.shape[:2]),
        skips={} if keras.backend.backend() == "tensorflow" else {"every": TENSORFLOW_ONLY},
    ),
    "ScheduledSampling": Case(
        lambda dtype: None, lambda: (), "callback", kk.callbacks.ScheduledSampling, skips={"every": CALLBACK}
    ),
    **{
        callback.__name__: Case(lambda dtype: None, lambda: (), "callback", callback, skips={"every": CALLBACK})
        for callback in (kk.callbacks.EarlyStopping, kk.callbacks.TimeStopping, kk.callbacks.GeneralizationGap)
    },
    **{
        rule.__name__: Case(lambda dtype: None, lambda: (), "tool", rule, skips={"every": RULE})
        for rule in (
            *(kk.callbacks.StoppingRule, kk.callbacks.Patience, kk.callbacks.GL, kk.callbacks.PQ, kk.callbacks.UP),
            *(kk.callbacks.LowProgress, kk.callbacks.StoppingCheck, kk.callbacks.learning_curves_picture),
        )
    },
    "GradientFlow": Case(
        lambda dtype: None, lambda: (), "callback", kk.callbacks.GradientFlow, skips={"every": CALLBACK}
    ),
    **{
        result.__name__: Case(lambda dtype: None, lambda: (), "tool", result, skips={"every": REPORT})
        for result in (kk.callbacks.GradientReport, kk.callbacks.LayerFlow, kk.callbacks.gradient_flow_picture)
    },
    "PruningCallback": Case(
        lambda dtype: None, lambda: (), "callback", kk.compression.PruningCallback, skips={"every": CALLBACK}
    ),
    **{
        tool.__name__: Case(lambda dtype: None, lambda: (), "tool", tool, skips={"every": TOOL})
        for tool in (
            kk.compression.Compressed,
            kk.compression.calibrate,
            kk.compression.cluster_report,
            kk.compression.cluster_weights,
            kk.compression.evaluate_tflite,
            kk.compression.load_bfloat16_weights,
            kk.compression.predict_tflite,
            kk.compression.prune_iteratively,
            kk.compression.prune_low_magnitude,
            kk.compression.quantize_annotate_layer,
            kk.compression.quantize_model,
            kk.compression.save_bfloat16_weights,
            kk.compression.sparsity_report,
            kk.compression.strip_clustering,
            kk.compression.strip_l0,
            kk.compression.strip_pruning,
            kk.compression.to_bfloat16,
            kk.compression.to_tflite,
        )
    },
    **{
        tool.__name__: Case(lambda dtype: None, lambda: (), "tool", tool, skips={"every": DATASET})
        for tool in (
            kk.datasets.Characters,
            kk.datasets.TreeBatches,
            kk.datasets.adding_problem,
            kk.datasets.characters,
            kk.datasets.copy_memory,
            kk.datasets.list_ops,
            kk.datasets.list_ops_sequence,
            kk.datasets.list_ops_tree,
            kk.datasets.nested_trees,
            kk.datasets.streams,
            kk.datasets.temporal_order,
            kk.datasets.tree_tensors,
            kk.datasets.tree_topology,
        )
    },
    **{
        tool.__name__: Case(lambda dtype: None, lambda: (), "tool", tool, skips={"every": DIAGNOSTIC})
        for tool in (
            kk.diagnostics.BiasVariance,
            kk.diagnostics.BiasVarianceCurve,
            kk.diagnostics.GradientNoiseScale,
            kk.diagnostics.GradientThroughTime,
            kk.diagnostics.StateGradient,
            kk.diagnostics.bias_variance,
            kk.diagnostics.bias_variance_curve,
            kk.diagnostics.gradient_noise_scale,
            kk.diagnostics.gradient_through_time,
            kk.diagnostics.sup_error,
        )
    },
    **{
        name: Case(
            lambda dtype: None,
            lambda: (),
            "base" if value is kk.optimizers.Transform else "optimizer",
            value,
            skips={"every": SCHEDULE if value is kk.optimizers.CyclicalLearningRate else OPTIMIZER},
        )
        for name, value in vars(kk.optimizers).items()
        if inspect.isclass(value)
    },
    **{
        tool.__name__: Case(lambda dtype: None, lambda: (), "tool", tool, skips={"every": SAMPLED})
        for tool in (kk.models.MonteCarloPrediction, kk.models.monte_carlo_predict)
    },
    **{
        tool.__name__: Case(lambda dtype: None, lambda: (), "tool", tool, skips={"every": APPROXIMATOR})
        for tool in (kk.models.linear_interpolator, kk.models.sawtooth_network, kk.models.step_approximator)
    },
    "update_batch_normalization": Case(
        lambda dtype: None, lambda: (), "tool", kk.models.update_batch_normalization, skips={"every": MODELS}
    ),
}
