"""Training for flat minima."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.models.known_shape import build_by_shape, known_shape, output_shape
from keras_kicks.ops.replicas import assign_all, replica_count, sum_replicas
from keras_kicks.optimizers.functional_optimizer import dense, read


@keras.saving.register_keras_serializable(package="keras_kicks")
class SharpnessAware(keras.Model):
    """Trains a model by sharpness-aware minimization (SAM): for weights in whose neighborhood the loss is low.

    Of each batch, with w the weights and g their gradient,

        worst = w + rho g / |g|
        w <- what the optimizer makes of w and the gradient at `worst`

    A step costs two forward and backward passes. Both are of the same batch, with the same dropout; losses, metrics and
    the statistics of batch normalization are those of the first, at w. On several replicas of `tf.distribute` g is the
    gradient of the whole batch, so that N replicas make the step of one device.

    It is a model and no optimizer, since an optimizer is given one gradient of a batch. Any optimizer may follow.

    Args:
        model: A Keras model. It is trained in place; save and use it by itself, or with this around it.
        rho: Radius of the neighborhood, > 0.
        name: Name of the model.
        **kwargs: Base model arguments.

    Call arguments:
        inputs: What the model takes.
        training: Passed to the model.

    Returns:
        The output of the model.

    Raises:
        TypeError: `model` is no Keras model; `rho` is no number.
        ValueError: expected rho > 0; the TensorFlow backend.

    Source:
        Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-aware minimization for efficiently improving generalization",
        2021, arXiv:2010.01412, algorithm 1 with p = 2. Departure: their g is that of a replica's own part.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> sam = SharpnessAware(model, rho=0.05)
        >>> sam.compile("adam", "mse")
        >>> history = sam.fit(np.ones((8, 3)), np.zeros((8, 1)), verbose=0)
        >>> sam.predict(np.ones((2, 3)), verbose=0).shape
        (2, 1)
    """

    def __init__(self, model, rho=0.05, name="sharpness_aware", **kwargs):
        owner = type(self).__name__
        expect(isinstance(model, keras.Model), owner, "a keras model", error=TypeError, model=model)
        backend = keras.backend.backend()
        expect(backend == "tensorflow", owner, "the TensorFlow backend", backend=backend)
        expect_number(owner, rho=rho)
        expect(rho > 0, owner, "rho > 0", rho=rho)
        kwargs.setdefault("dtype", model.dtype_policy)
        super().__init__(name=name, **kwargs)
        self.autocast = False
        self.model = model
        self.rho = float(rho)
        shape = known_shape(model)
        if shape is None:
            self.built = model.built
        else:
            self.build(shape)

    def build(self, input_shape):
        """Build the model."""
        build_by_shape(self.model, input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """Run the model."""
        return self.model(inputs, training=training)

    @property
    def output_names(self):
        """Names of the outputs, as of the model; Keras asks for them where losses or metrics have names."""
        return self.model.output_names

    def compute_output_shape(self, input_shape):
        """Return the shape of the model's output."""
        return output_shape(self.model, input_shape)

    def train_step(self, data):
        """Train on one batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not self.built:
            self(x)
        state = self.model.non_trainable_variables
        first_state = [read(v) for v in state]
        gradients, loss, y_pred = self._gradients(x, y, sample_weight)
        state_after, weights = [read(v) for v in state], [read(w) for w in self.trainable_weights]
        assign_all(self.trainable_weights, self._worst(gradients, weights))
        assign_all(state, first_state)
        gradients, _, _ = self._gradients(x, y, sample_weight)
        assign_all(self.trainable_weights, weights)
        assign_all(state, state_after)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(loss * replica_count(), sample_weight=ops.shape(keras.tree.flatten(x)[0])[0])
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _gradients(self, x, y, sample_weight):
        """Return the gradients by the trainable weights, the loss and the outputs."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        return tape.gradient(scaled, self.trainable_weights), loss, y_pred

    def _worst(self, gradients, weights):
        """Return the weights at a distance of rho in the direction of the gradient; its own scale does not matter."""
        there = [i for i, g in enumerate(gradients) if g is not None]
        variables = [self.trainable_weights[i] for i in there]
        summed = sum_replicas([gradients[i] for i in there])
        full = [ops.cast(dense(g, v), "float32") for g, v in zip(summed, variables, strict=True)]
        # Squares of what is divided by its largest can neither vanish nor become infinite.
        largest = ops.max(ops.stack([ops.max(ops.abs(g)) for g in full]))
        full = [g / ops.where(ops.equal(largest, 0), ops.ones_like(largest), largest) for g in full]
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in full))
        scale = self.rho / ops.where(ops.equal(norm, 0), ops.ones_like(norm), norm)
        worst = list(weights)
        for i, g in zip(there, full, strict=True):
            worst[i] = weights[i] + ops.cast(scale * g, weights[i].dtype)
        return worst

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model), "rho": self.rho}

    @classmethod
    def from_config(cls, config):
        """Make the model and what is around it."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("model")), **config)
