"""Models whose parameters are tied."""

import keras

from keras_kicks._errors import expect
from keras_kicks.models.known_shape import build_by_shape, known_shape, output_shape
from keras_kicks.regularizers.parameter_tying import ParameterTying


@keras.saving.register_keras_serializable(package="keras_kicks")
class TiedModel(keras.Model):
    """Trains a model with a penalty on the distance of its parameters to those of another one.

        loss = loss of the model + penalty                                 for a snapshot, or a live other
        loss = loss of the model + loss of the other + penalty             for mode="two-way"

    In two ways both are trained in one `fit`: it takes a pair of inputs and returns a pair of outputs, so that losses,
    metrics, labels and sample weights are given for each. Each batch has as many samples of one task as of the other.

    The penalty is one of Keras's losses of a layer: counted once on any number of replicas, in float32, and also part
    of the loss that `evaluate` reports.

    Args:
        model: A Keras model. It is trained in place; save and use it by itself, or with this around it, which takes the
            other along.
        tying: A `keras_kicks.regularizers.ParameterTying`.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: What the model takes; for two ways a pair of what the model and of what the other takes.
        training: Passed to the models.

    Returns:
        The output of the model; for two ways the list of both outputs.

    Raises:
        TypeError: `model` is no Keras model; `tying` is no ParameterTying.
        ValueError: expected weights of the same paths and shapes, which are named; for mode="live" an other that is
            not trained; for mode="two-way" an other that can be called, and inputs for both.

    Source:
        The notes' parameter tying; Li, Grandvalet and Davoine 2018, arXiv:1802.01483.

    Example:
        >>> import numpy as np
        >>> a, b = (keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]) for _ in range(2))
        >>> tied = TiedModel(a, ParameterTying(b, weight=0.1, mode="two-way"))
        >>> tied.compile("sgd", ["mse", "mae"])
        >>> history = tied.fit([np.ones((8, 3))] * 2, [np.zeros((8, 1))] * 2, verbose=0)
        >>> [y.shape for y in tied.predict([np.ones((2, 3))] * 2, verbose=0)]
        [(2, 1), (2, 1)]
    """

    def __init__(self, model, tying, name="tied_model", **kwargs):
        owner = type(self).__name__
        expect(isinstance(model, keras.Model), owner, "a keras model", error=TypeError, model=model)
        expect(isinstance(tying, ParameterTying), owner, "a ParameterTying", error=TypeError, tying=tying)
        expect(tying.other is not model, owner, "another model to tie to", other=model.name)
        kwargs.setdefault("dtype", model.dtype_policy)
        super().__init__(name=name, **kwargs)
        self.autocast = False
        self.model = model
        self.tying = tying
        if tying.mode == "live" and tying.other is not None:
            free = [weight.path for weight in tying.other.trainable_weights]
            remedy = "Set other.trainable = False."
            expect(not free, owner, 'an other that is not trained for mode="live"', remedy, trainable=free)
        if model.built:
            tying.pairs(model)
        shapes = [known_shape(part) for part in ([model, tying.other] if self._two_way and tying.other else [model])]
        if None in shapes:
            self.built = model.built
        else:
            self.build(shapes if self._two_way else shapes[0])

    @property
    def _two_way(self):
        return self.tying.mode == "two-way"

    def _pair(self, inputs):
        """Return what is for the model and for the other."""
        rule = 'a pair of inputs, for the model and the other, for mode="two-way"'
        fits = isinstance(inputs, (list, tuple)) and len(inputs) == 2
        expect(fits, type(self).__name__, rule, inputs=type(inputs).__name__)
        return inputs

    def build(self, input_shape):
        """Build the model."""
        build_by_shape(self.model, self._pair(input_shape)[0] if self._two_way else input_shape)
        self.tying.pairs(self.model)
        self.built = True

    def call(self, inputs, training=None):
        """Run the model, or both."""
        self.add_loss(self.tying.penalty(self.model))
        if not self._two_way:
            return self.model(inputs, training=training)
        x, other_x = self._pair(inputs)
        return [self.model(x, training=training), self.tying.other(other_x, training=training)]

    @property
    def output_names(self):
        """Names of the outputs, as of the model; Keras asks for them where losses or metrics have names."""
        if self._two_way:
            raise AttributeError("output_names")
        return self.model.output_names

    def compute_output_shape(self, input_shape):
        """Return the shape of the model's output, or of both."""
        if not self._two_way:
            return output_shape(self.model, input_shape)
        shape, other_shape = self._pair(input_shape)
        return [output_shape(self.model, shape), output_shape(self.tying.other, other_shape)]

    def get_config(self):
        """Return the constructor arguments."""
        tying = keras.saving.serialize_keras_object(self.tying)
        if self.tying.mode != "snapshot":
            tying["config"]["other"]["own"] = True
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "tying": tying}

    @classmethod
    def from_config(cls, config):
        """Make the model, the other if it is no snapshot, and what is around them."""
        config = dict(config)
        model = keras.saving.deserialize_keras_object(config.pop("model"))
        tying = keras.saving.deserialize_keras_object(config.pop("tying"))
        return cls(model, tying, **config)
