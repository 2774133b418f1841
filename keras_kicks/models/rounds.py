"""A loop whose steps draw, on each backend; its graph does not grow with the number of steps, but on torch."""

import keras
from keras import ops

from keras_kicks.ops.scan import scan


def in_rounds(draw, rounds, model):
    """Call a function several times, and stack what it returns.

    Args:
        draw: Function without arguments that returns a list of tensors, and may draw by the layers of `model`.
        rounds: Number of calls.
        model: A built model.

    Returns:
        List of tensors of shape (rounds, ...).
    """
    if keras.backend.backend() != "jax":
        return list(scan(lambda *_: ((), tuple(draw())), (), (ops.arange(rounds),), keep_states=False)[2])
    weights = {id(weight) for weight in model.weights}
    states = [v for v in model.variables if id(v) not in weights]
    # Every variable is mapped, since the scope hides that of the compiled call.
    others = [(v, v.value) for v in model.weights]

    def step(values, _):
        """Run one call; the states of generators go through the loop, as JAX lets nothing else out of it."""
        mapping = [*others, *zip(states, values, strict=True)]
        with keras.StatelessScope(mapping, initialize_variables=False) as scope:
            parts = tuple(draw())
        return tuple(scope.get_current_value(v) for v in states), parts

    first = tuple(v.value for v in states)
    last, _, parts = scan(step, first, (ops.arange(rounds),), keep_states=False)
    for variable, value in zip(states, last, strict=True):
        variable.assign(value)
    return list(parts)
