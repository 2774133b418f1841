"""Learning rates that go up and down."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number


@keras.saving.register_keras_serializable(package="keras_kicks")
class CyclicalLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Goes from the least rate to the greatest and back, again and again.

    With x the place in the cycle, 0 at its ends and 1 in the middle, and c = 0, 1, ... the number of the cycle,

        rate = least + (greatest - least) x s    with s = 1, 1 / 2^c or decay^step

    for the policies "triangular", "triangular2" and "exp_range".

    Args:
        least: Least rate, > 0.
        greatest: Greatest rate, >= least.
        step_size: Steps of half a cycle, >= 1; two to eight epochs are usual.
        policy: "triangular", "triangular2" or "exp_range".
        decay: Of "exp_range", in (0, 1].

    Returns:
        A learning rate schedule.

    Raises:
        TypeError: a number is none, `step_size` no integer.
        ValueError: expected 0 < least <= greatest; step_size >= 1; policy to be one of the three; 0 < decay <= 1.

    Source:
        Smith 2017, arXiv:1506.01186.

    Example:
        >>> rate = CyclicalLearningRate(0.1, 0.5, step_size=4)
        >>> [round(float(rate(step)), 2) for step in range(0, 10, 2)]
        [0.1, 0.3, 0.5, 0.3, 0.1]
    """

    def __init__(self, least, greatest, step_size, policy="triangular", decay=0.9999):
        owner = type(self).__name__
        expect_number(owner, least=least, greatest=greatest, decay=decay)
        expect(0 < least <= greatest, owner, "0 < least <= greatest", least=least, greatest=greatest)
        expect_integer(owner, step_size=step_size)
        expect(step_size >= 1, owner, "step_size >= 1", step_size=step_size)
        expect_choice(owner, ("triangular", "triangular2", "exp_range"), policy=policy)
        expect(0 < decay <= 1, owner, "0 < decay <= 1", decay=decay)
        self.least, self.greatest, self.step_size = float(least), float(greatest), int(step_size)
        self.policy, self.decay = policy, float(decay)

    def __call__(self, step):
        """Return the rate of a step."""
        step = ops.cast(ops.convert_to_tensor(step), "float32")
        half = step / self.step_size
        cycle = ops.floor(half / 2)
        scale = 1.0
        if self.policy == "triangular2":
            scale = ops.power(0.5, cycle)
        if self.policy == "exp_range":
            scale = ops.power(self.decay, step)
        return self.least + (self.greatest - self.least) * scale * (1 - ops.abs(half - 2 * cycle - 1))

    def get_config(self):
        """Return the constructor arguments."""
        return {
            "least": self.least,
            "greatest": self.greatest,
            "step_size": self.step_size,
            "policy": self.policy,
            "decay": self.decay,
        }
