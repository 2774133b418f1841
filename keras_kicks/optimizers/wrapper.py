"""What the optimizers around another optimizer share."""

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.ops.gradients import no_gradients
from keras_kicks.ops.replicas import sum_replicas
from keras_kicks.optimizers.functional_optimizer import leave_summed


class Wrapper(keras.optimizers.Optimizer):
    """Base class of an optimizer that lets another one make the step; a subclass has `before` or `after`.

    It sums the gradients of all replicas itself, and the inner optimizer does not do it again. Learning rate,
    iterations and weight decay are those of the inner optimizer.

    Args:
        optimizer: A Keras optimizer, or its name or config.
        name: Name.
    """

    def __init__(self, optimizer, name=None):
        owner = type(self).__name__
        if isinstance(optimizer, (str, dict)):
            optimizer = keras.optimizers.get(optimizer)
        rule, remedy = "a Keras optimizer", "Pass an instance, such as keras.optimizers.Adam(0.001)."
        expect(isinstance(optimizer, keras.optimizers.Optimizer), owner, rule, remedy, TypeError, optimizer=optimizer)
        remedy = "Wrap what it wraps: LossScaleOptimizer(" + owner + "(...))."
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        expect(not scaled, owner, "an optimizer that does not scale the loss", remedy, optimizer=optimizer)
        expect(not optimizer.built, owner, "an optimizer that is not in use", "Make a new one.", built=True)
        super().__init__(learning_rate=0.0, name=name)
        self.optimizer = optimizer
        self.sums = True
        leave_summed(optimizer)

    def innermost(self):
        """Return the optimizer that makes the step."""
        return self.optimizer.innermost() if isinstance(self.optimizer, Wrapper) else self.optimizer

    def build(self, variables):
        """Create the variables of both optimizers."""
        variables = list(variables)
        if not self.built:
            self.optimizer.build(variables)
            super().build(variables)
            self.build_own(variables)

    def build_own(self, variables):
        """Create what the wrapper remembers."""

    def apply(self, grads, trainable_variables=None):
        """Update the variables.

        Args:
            grads: Gradients by the variables, None where there is none.
            trainable_variables: The variables; by default those the optimizer was built on.
        """
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not self.built:
            self.build(variables)
        grads = list(grads)
        if self.sums:
            there = [i for i, g in enumerate(grads) if g is not None]
            for i, g in zip(there, sum_replicas([grads[i] for i in there]), strict=True):
                grads[i] = g
        with no_gradients():
            self.around(grads, variables)

    def around(self, grads, variables):
        """Let the inner optimizer make the step."""
        self.optimizer.apply(grads, variables)

    @property
    def variables(self):
        """The variables of both optimizers."""
        return self._variables + self.optimizer.variables

    @property
    def iterations(self):
        """The inner optimizer's number of updates."""
        return self.optimizer.iterations

    @property
    def learning_rate(self):
        """The inner optimizer's learning rate."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        """Scale the loss as the inner optimizer does."""
        return self.optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        """Put running averages into place, if the inner optimizer has them."""
        self.optimizer.finalize_variable_values(var_list)

    def get_config(self):
        """Return the constructor arguments."""
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Return a new optimizer."""
        config = dict(config)
        optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"), custom_objects=custom_objects)
        return cls(optimizer, **config)


def where_all(condition, new, old):
    """Choose between two lists of tensors."""
    return [ops.where(condition, a, b) for a, b in zip(new, old, strict=True)]
