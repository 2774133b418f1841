"""The weights of many models of one architecture, side by side."""

import keras
import numpy as np
from keras import ops


class StackedMembers(keras.layers.Layer):
    """Runs models that differ in their weights alone, all at once.

    Each weight of the architecture, of shape s, is here one of shape (n, *s). What the members are worth is kept with
    them: weight and error of each, their number, and what their sum starts from.

    Args:
        learner: `WeakLearner` with a built model, which is called but is no part of this.
        name: Name of the layer.
        **kwargs: Base layer arguments.

    Call arguments:
        inputs: What the model takes.

    Returns:
        Shape (n, batch, ...): the output of every member, also of those that are still zeros.
    """

    def __init__(self, learner, name="members", **kwargs):
        super().__init__(name=name, **kwargs)
        self.autocast = False
        self._learner = learner
        self._stacks = []
        # Never through `build`, which would close the layer: an ensemble may grow.
        self.built = True

    def create(self, n, start_shape, dtype):
        """Create weights for n members and for a start of this shape; numbers of the ensemble have this dtype."""
        numbers = {"trainable": False, "initializer": "zeros", "autocast": False}
        self.count = self.add_weight(shape=(), name="count", dtype="int32", **numbers)
        self.start = self.add_weight(shape=start_shape, name="start", dtype=dtype, **numbers)
        self._create_stacks(n)

    def _create_stacks(self, n):
        for name in ("estimator_weights", "estimator_errors"):
            variable = self.add_weight(
                shape=(n,), name=name, trainable=False, initializer="zeros", dtype=self.start.dtype, autocast=False
            )
            setattr(self, name, variable)
        for place, weight in enumerate(self._learner.weights()):
            stack = self.add_weight(
                shape=(n, *weight.shape),
                dtype=weight.dtype,
                initializer="zeros",
                trainable=weight.trainable,
                # The architecture casts them as it sees fit.
                autocast=False,
                name=f"{weight.name}_{place}",
            )
            setattr(self, f"stack_{place}", stack)

    def stacks(self):
        """Return the stacked weights, in the order of the architecture's."""
        return [getattr(self, f"stack_{place}") for place in range(len(self._learner.weights()))]

    def resize(self, n):
        """Make room for n members; those that are there stay."""
        names = ["estimator_weights", "estimator_errors"]
        names += [f"stack_{place}" for place in range(len(self._learner.weights()))]
        kept = [np.array(ops.convert_to_numpy(getattr(self, name))) for name in names]
        for name in names:
            delattr(self, name)
        self._create_stacks(n)
        for name, old in zip(names, kept, strict=True):
            new = np.zeros((n, *old.shape[1:]), old.dtype)
            new[: min(n, len(old))] = old[:n]
            getattr(self, name).assign(new)

    def write(self, place, values, weight, error):
        """Keep a member: its weights' values, its own weight and its error."""
        variables = [*self.stacks(), self.estimator_weights, self.estimator_errors]
        for variable, value in zip(variables, [*values, weight, error], strict=True):
            row = ops.cast(np.asarray(value), variable.dtype)[None]
            variable.assign(ops.slice_update(ops.convert_to_tensor(variable), [place] + [0] * (row.ndim - 1), row))
        self.count.assign(place + 1)

    def size(self):
        """Return the number of members that are kept."""
        return int(ops.convert_to_numpy(self.count))

    def read(self):
        """Return a list of values for each member that is kept."""
        stacks = [np.array(ops.convert_to_numpy(stack)) for stack in self.stacks()]
        return [[stack[place] for stack in stacks] for place in range(self.size())]

    def call(self, inputs):
        """Run all members."""

        def member(values):
            return self._learner.call(values, inputs)

        return ops.vectorized_map(member, [ops.convert_to_tensor(stack) for stack in self.stacks()])
