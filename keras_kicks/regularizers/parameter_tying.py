"""A penalty on the distance between the parameters of two models."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_number
from keras_kicks._references import Named, reference, referred
from keras_kicks._weight_paths import matched, weights_by_path
from keras_kicks.ops.distance import lp_distance
from keras_kicks.regularizers.lp import checked_weight
from keras_kicks.regularizers.snapshot import Snapshot, values_of


@keras.saving.register_keras_serializable(package="keras_kicks")
class ParameterTying(keras.layers.Layer, keras.regularizers.Regularizer):
    """A penalty on the distance between the parameters of two models for similar tasks.

        weight (sum_i |a_i - b_i|^p)^(1 / p)

    over all parameters a_i of one model and b_i of the other together: one norm. With mode "snapshot" b are the values
    that the other has now: with `squared=True` this is L2-SP, which pulls a model that is fine-tuned towards where it
    started (its weight counts twice that of the paper, which halves the square). With "two-way" both are trained, in
    one `fit`, and pull each other.

    For whole models, give it to `keras_kicks.models.TiedModel`. For one weight, it is a `kernel_regularizer` (or
    `bias_regularizer`): then `other` is an array, a variable, or a layer with such a weight.

    It is also a Keras layer, so that files hold what it needs. The values of a snapshot are weights of it that are not
    trained; a config has a mark of them only. `clone_model` and `from_config` give copies the same values as long as
    the original is there; in another process they are NaN until weights are loaded or set. For the other modes a
    file's config refers to the other, which must be in the same model.

    Args:
        other: A built layer or model; for "snapshot" also a variable or an array.
        weight: Factor, >= 0: the notes' lambda.
        p: The order, > 0; `math.inf` for the largest difference.
        squared: Whether to square the norm.
        mode: "snapshot" for the values that `other` has now; "live" for those that it has in each step, without a
            gradient, for one that something else moves; "two-way" for both with a gradient.
        paths: Dict from paths of layers or weights to those of the other, such as
            `{"features": "backbone", "out/kernel": "head/kernel"}`, or a list of equal ones: only these are tied. By
            default all that is trained: by equal paths or, if both have as many weights of the same names and shapes
            in the same order, in this order. For one weight, the path in `other`: "kernel" by default.
        per_variable: Whether to take a norm of each pair of variables, and to add these up.
        **kwargs: Base layer arguments; `dtype` is float32 by default, under any policy.

    Call arguments:
        x: The weight, for use as the regularizer of one weight.

    Returns:
        A scalar, in float32 or the wider dtype of the weights, whatever that of `other` is.

    Raises:
        TypeError: weight or p is no number; `other` is none of these.
        ValueError: expected a finite weight >= 0; p > 0; mode to be one of the three; a layer that is built; weights
            of the same paths and shapes, which are named.

    Source:
        The notes' parameter tying. Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with
        convolutional networks", 2018, arXiv:1802.01483, for the snapshot and the square.

    Example:
        >>> import numpy as np
        >>> start = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
        >>> tying = ParameterTying(start, weight=0.1)
        >>> round(float(tying(keras.ops.convert_to_tensor(start + np.array([3.0, 4.0], "float32")))), 4)
        0.7071
        >>> layer = keras.layers.Dense(2, kernel_regularizer=tying)
    """

    def __init__(
        self, other, weight=0.01, p=2.0, squared=False, mode="snapshot", paths=None, per_variable=False, **kwargs
    ):
        owner = type(self).__name__
        weight = checked_weight(owner, weight)
        p = math.inf if p == "inf" else p  # As in a config.
        if p != math.inf:
            expect_number(owner, "Pass math.inf for the largest difference.", p=p)
        expect(p > 0, owner, "p > 0", p=p)
        expect_choice(owner, ("snapshot", "live", "two-way"), mode=mode)
        super().__init__(**{"dtype": "float32", **kwargs})
        self.autocast = False
        self.weight, self.p, self.squared, self.mode = weight, float(p), bool(squared), mode
        self.paths = paths if paths is None or isinstance(paths, (str, dict)) else list(paths)
        self.per_variable = bool(per_variable)
        self._other = None
        object.__setattr__(self, "_matches", None)
        if mode == "snapshot":
            self._values = values_of(owner, other)
            self._variables_by_path = self._values.variables(self)
        elif isinstance(other, Named):
            self._other = other
        else:
            self.other = other
        self.built = True

    @property
    def other(self):
        """The other layer or model; None for a snapshot, and in a copy that does not have it yet."""
        return None if isinstance(self._other, Named) else self._other

    def __setattr__(self, name, value):
        # Past Keras's tracking, which lets no layer become a part of one that is built.
        if name == "other":
            self._tie(value)
        else:
            super().__setattr__(name, value)

    def _tie(self, other):
        owner = type(self).__name__
        remedy = 'A variable or an array is for mode="snapshot".'
        expect(isinstance(other, keras.layers.Layer), owner, "a layer or model", remedy, TypeError, other=other)
        expect(other.built, owner, "a layer that is built", "Call it first, or build it.", other=other.name)
        object.__setattr__(self, "_matches", None)
        if self.built:
            object.__setattr__(self, "_other", other)
        else:
            self._other = other

    def _others(self):
        """Return the other's variables by path."""
        if self.mode == "snapshot":
            return self._variables_by_path
        remedy = "Set `other` to the layer or model."
        got = self._other.name if isinstance(self._other, Named) else None
        expect(self.other is not None, type(self).__name__, "the other in the same model", remedy, other=got)
        return weights_by_path(self._other)

    def pairs(self, model):
        """Return the variables of a built model and their counterparts, as a list of pairs.

        Raises:
            ValueError: expected weights of the same paths and shapes.
        """
        # Freezing and thawing layers changes what is tied.
        key = (id(model), *map(id, model.trainable_weights))
        if self._matches is None or self._matches[0] != key:
            own, others = weights_by_path(model), self._others()
            paths = matched(type(self).__name__, own, others, self.paths, both=self.mode == "two-way")
            pairs = [(own[path], others[other]) for path, other in paths.items()]
            object.__setattr__(self, "_matches", (key, pairs))
        return self._matches[1]

    def penalty(self, model):
        """Return the penalty of a built model: of its weights that are trained. In float32 or wider."""
        # As a layer of its own precision: within the call of a model, Keras casts weights to that of the model.
        return super().__call__(ops.zeros(()), model=model)

    def call(self, _, model):
        """Return the penalty of a built model."""
        two_way = self.mode == "two-way"
        return self._weighted([(a, b) for a, b in self.pairs(model) if a.trainable or (two_way and b.trainable)])

    def __call__(self, x):
        """Return the penalty of one weight."""
        others, owner = self._others(), type(self).__name__
        path = "" if "" in others else self.paths or "kernel"
        expect(path in others, owner, "the path of a weight of the other", paths=path, weights=list(others))
        shapes = {"shape": tuple(x.shape), "other": tuple(others[path].shape)}
        expect(shapes["shape"] == shapes["other"], owner, "a weight of the other's shape", **shapes)
        return self._weighted([(x, others[path])])

    def _weighted(self, pairs):
        if not pairs:
            return ops.zeros(())
        if self.mode != "two-way":
            pairs = [(a, ops.stop_gradient(ops.convert_to_tensor(b))) for a, b in pairs]
        groups = [[pair] for pair in pairs] if self.per_variable else [pairs]
        distance = sum(lp_distance(group, self.p, self.squared) for group in groups)
        return self.weight * distance

    def get_config(self):
        """Return the constructor arguments; the other by reference, and infinity as a string."""
        config = {
            "other": self._values.config if self.mode == "snapshot" else reference(self._other),
            "weight": self.weight,
            "p": "inf" if self.p == math.inf else self.p,
            "squared": self.squared,
            "mode": self.mode,
            "paths": dict(self.paths) if isinstance(self.paths, dict) else self.paths,
            "per_variable": self.per_variable,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Return a new regularizer, tied to what it refers to or, before this is set, to a name."""
        config = dict(config)
        other = config.pop("other")
        other = Snapshot(other) if config.get("mode", "snapshot") == "snapshot" else referred(other)
        return cls(other, **config)
