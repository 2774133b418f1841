"""Lookahead: k steps forward, one back."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.ops.replicas import assign_all
from keras_kicks.optimizers.functional_optimizer import read, snapshot
from keras_kicks.optimizers.wrapper import Wrapper, where_all


@keras.saving.register_keras_serializable(package="keras_kicks")
class Lookahead(Wrapper):
    """Lets another optimizer run ahead, and goes part of the way it went.

    The fast weights are those of the model. After every `sync_period` updates,

        slow <- slow + slow_step_size (fast - slow)
        fast <- slow

    Args:
        optimizer: A Keras optimizer that was not used yet, or its name.
        sync_period: k, >= 1.
        slow_step_size: In (0, 1].
        name: Name.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: `optimizer` is no Keras optimizer; a number is none.
        ValueError: expected sync_period >= 1; 0 < slow_step_size <= 1; an optimizer that is not in use.

    Source:
        Zhang, Lucas, Hinton and Ba 2019, arXiv:1907.08610, algorithm 1. The slow weights start where the model is in
        the first step, also if it was loaded after the optimizer was built.

    Example:
        >>> optimizer = Lookahead(keras.optimizers.SGD(1.0), sync_period=2)
        >>> w = keras.Variable(0.0)
        >>> for _ in range(2):
        ...     optimizer.apply([keras.ops.convert_to_tensor(-1.0)], [w])
        >>> float(w.numpy())
        1.0
    """

    def __init__(self, optimizer, sync_period=6, slow_step_size=0.5, name=None):
        owner = type(self).__name__
        expect_integer(owner, sync_period=sync_period)
        expect(sync_period >= 1, owner, "sync_period >= 1", sync_period=sync_period)
        expect_number(owner, slow_step_size=slow_step_size)
        expect(0 < slow_step_size <= 1, owner, "0 < slow_step_size <= 1", slow_step_size=slow_step_size)
        super().__init__(optimizer, name=name)
        self.sync_period, self.slow_step_size = int(sync_period), float(slow_step_size)

    def build_own(self, variables):
        """Create the slow weights."""
        self._slow = self.add_optimizer_variables(variables, "slow")

    def around(self, grads, variables):
        """Make a step, and one back where it is time."""
        pairs = [(v, s) for v, s in zip(self._trainable_variables, self._slow, strict=True) if s is not None]
        targets, slow = [v for v, _ in pairs], [s for _, s in pairs]
        before = snapshot(self.optimizer.iterations)
        at_first = where_all(ops.equal(before, 0), [snapshot(v) for v in targets], [read(s) for s in slow])
        self.optimizer.apply(grads, variables)
        after = read(self.optimizer.iterations)
        time = ops.logical_and(ops.equal(after % self.sync_period, 0), ops.not_equal(after, before))
        fast = [read(v) for v in targets]

        def back():
            step = self.slow_step_size
            return tuple(s + ops.cast(step, s.dtype) * (f - s) for s, f in zip(at_first, fast, strict=True))

        new_slow = ops.cond(time, back, lambda: tuple(at_first))
        assign_all([*targets, *slow], [*where_all(time, new_slow, fast), *new_slow])

    def get_config(self):
        """Return the constructor arguments."""
        config = {"sync_period": self.sync_period, "slow_step_size": self.slow_step_size}
        return {**super().get_config(), **config}
