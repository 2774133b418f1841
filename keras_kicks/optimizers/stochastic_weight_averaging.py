"""Stochastic weight averaging."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.ops.replicas import assign_all
from keras_kicks.optimizers.functional_optimizer import read, snapshot
from keras_kicks.optimizers.wrapper import Wrapper


@keras.saving.register_keras_serializable(package="keras_kicks")
class StochasticWeightAveraging(Wrapper):
    """Averages the weights that another optimizer comes by, with equal weights.

    After updates `start`, `start + period`, `start + 2 period` and so on, with n averaged before,

        average <- average + (w - average) / (n + 1)

    Training goes on with w. When `fit` ends, the averages take its place, as those of `use_ema` do in Keras;
    `keras_kicks.models.update_batch_normalization` then makes the statistics of BatchNormalization fit to them.

    Args:
        optimizer: A Keras optimizer that was not used yet, or its name. A constant or cyclical learning rate is usual.
        start: The first update that is averaged, >= 1.
        period: Updates between two that are, >= 1; usual is one epoch, or the length of a cycle.
        name: Name.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: `optimizer` is no Keras optimizer; a number is no integer.
        ValueError: expected start >= 1; period >= 1; an optimizer that is not in use.

    Source:
        Izmailov, Podoprikhin, Garipov, Vetrov and Wilson 2018, arXiv:1803.05407, algorithm 1.

    Example:
        >>> optimizer = StochasticWeightAveraging(keras.optimizers.SGD(1.0))
        >>> w = keras.Variable(0.0)
        >>> for _ in range(3):
        ...     optimizer.apply([keras.ops.convert_to_tensor(-1.0)], [w])
        >>> optimizer.finalize_variable_values([w])
        >>> float(w.numpy())
        2.0
    """

    def __init__(self, optimizer, start=1, period=1, name=None):
        owner = type(self).__name__
        expect_integer(owner, start=start, period=period)
        expect(start >= 1, owner, "start >= 1", start=start)
        expect(period >= 1, owner, "period >= 1", period=period)
        super().__init__(optimizer, name=name)
        self.start, self.period = int(start), int(period)

    def build_own(self, variables):
        """Create the averages."""
        self._averages = self.add_optimizer_variables(variables, "average")
        self._averaged = self.add_variable((), "zeros", "int32", name="averaged")

    def around(self, grads, variables):
        """Make a step, and average where it is time."""
        before = snapshot(self.optimizer.iterations)
        self.optimizer.apply(grads, variables)
        after = read(self.optimizer.iterations)
        time = ops.logical_and(after >= self.start, ops.equal((after - self.start) % self.period, 0))
        time = ops.logical_and(time, ops.not_equal(after, before))
        pairs = [(v, a) for v, a in zip(self._trainable_variables, self._averages, strict=True) if a is not None]
        count = read(self._averaged) + 1
        old, values = [read(a) for _, a in pairs], [read(v) for v, _ in pairs]

        def average():
            return tuple(a + (w - a) / ops.cast(count, a.dtype) for a, w in zip(old, values, strict=True))

        new = ops.cond(time, average, lambda: tuple(old))
        assign_all([*(a for _, a in pairs), self._averaged], [*new, ops.where(time, count, count - 1)])

    def finalize_variable_values(self, var_list):
        """Put the averages into the variables, if there are any."""
        if self.built and int(ops.convert_to_numpy(self._averaged)):
            for variable, average in zip(self._trainable_variables, self._averages, strict=True):
                if average is not None:
                    variable.assign(average)
        else:
            self.optimizer.finalize_variable_values(var_list)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "start": self.start, "period": self.period}
