"""What a gradient transform is."""

import dataclasses

import keras

from keras_kicks._errors import expect


@dataclasses.dataclass
class Step:
    """What transforms know of the step besides the gradients. Lists are over the variables that have a gradient.

    Attributes:
        number: 1 for the first step; float32.
        learning_rate: Of this step; float32.
        values: The variables before the step, in float32 or wider.
        paths: The paths of the variables.
        places: The places of the variables among all that the optimizer has.
        scales: What the transforms so far divided each gradient by, elementwise, as a factor; None if by nothing. A
            transform that adapts the step size to each weight sets it.
    """

    number: object
    learning_rate: object
    values: list
    paths: list
    places: list
    scales: list | None = None

    def chosen(self, exclude):
        """Return for each variable whether its path contains none of these strings."""
        return [not any(part in path for part in exclude) for path in self.paths]


@keras.saving.register_keras_serializable(package="keras_kicks")
class Transform:
    """Turns gradients into updates: base class of the links of a `Chain`.

    A subclass has `update`, and says with `slots` and `own` what it remembers between steps. It computes nothing but
    tensors from tensors: the optimizer reads and writes the variables, so that a step compiles to one kernel, on any
    backend, and is the same on every replica. The base class changes nothing.

    Returns:
        A transform for `Chain`.

    Attributes:
        elementwise: Whether it treats all elements alike, whatever variable they are in, or none at all. If all
            transforms of a chain do, the gradients of small variables come as one vector, without a path.
        compiles: Whether it computes the same, but for rounding, when it is compiled.
    """

    elementwise = True
    compiles = True

    def slots(self, shape):
        """Return what is remembered for a variable: its shape and first value by name.

        Args:
            shape: Shape of the variable.
        """
        return {}

    def own(self):
        """Return what is remembered besides: shape, first value and dtype by name."""
        return {}

    def update(self, gradients, state, now):
        """Transform the gradients of all variables.

        Args:
            gradients: List of tensors, in float32 or wider.
            state: Dict of what is remembered: lists for `slots`, tensors for `own`.
            now: The `Step`.

        Returns:
            The list of updates and the new state.
        """
        return gradients, state

    def finish(self, values, now):
        """Return the variables' new values, corrected after the step."""
        return values

    def get_config(self):
        """Return the constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Return a new transform."""
        return cls(**config)


def checked_paths(owner, exclude):
    """Return a list of strings."""
    listed = isinstance(exclude, (list, tuple)) and all(isinstance(part, str) for part in exclude)
    expect(listed, owner, "a list of strings to exclude", error=TypeError, exclude=exclude)
    return list(exclude)
