"""What an update of an optimizer depends on: found out by trying."""

import concurrent.futures

import keras
import numpy as np

from keras_kicks._errors import expect

# Sizes of gradients that are tried: small ones are not clipped, large ones are.
_SIZES = (1e-3, 1.0, 1e4)


def expect_separate(owner, optimizer, stacked):
    """Raise unless an optimizer trains each of several models as it would train it alone.

    Args:
        owner: Name of the class that asks.
        optimizer: A Keras optimizer.
        stacked: Whether the variables of the models are stacked.

    Raises:
        ValueError: expected an optimizer with a config; one that works element by element for stacked weights, and
            variable by variable for others.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rule = "an optimizer with a config, by which copies of it are tried"
    expect(_has_config(optimizer), owner, rule, "Give its schedule a get_config.", optimizer=type(optimizer).__name__)
    limits = {name: getattr(optimizer, name, None) for name in ("clipnorm", "global_clipnorm")}
    got = {"optimizer": type(optimizer).__name__, **{name: value for name, value in limits.items() if value}}
    if stacked:
        rule, remedy = "an optimizer that works element by element for stacked weights", "Pass stacked=False."
        expect(_apart(works_by_element, optimizer), owner, rule, remedy, **got)
    else:
        rule, remedy = "an optimizer that works variable by variable", "It couples the members: use clipnorm."
        expect(_apart(works_by_variable, optimizer), owner, rule, remedy, **got)


def _has_config(optimizer):
    try:
        optimizer.get_config()
    except NotImplementedError:
        return False
    return True


def _apart(function, *arguments):
    """Return what a function returns outside of any distribution strategy, graph and policy: in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def works_by_element(optimizer):
    """Return whether an update of an element depends on the gradient of that element alone, and not on its place.

    So it is for SGD, Adam and their like. It is not with `clipnorm`, for LAMB, for Adafactor, or for Muon. If so, the
    variables of several models may be stacked: each is trained as if it were alone.
    """
    alone = _updated(optimizer, _rows(0))
    joint = _updated(optimizer, [np.stack(pair) for pair in zip(_rows(0), _rows(1), strict=True)], stacked=True)
    return all(np.allclose(a, b[0], rtol=1e-5, atol=1e-7) for a, b in zip(alone, joint, strict=True))


def works_by_variable(optimizer):
    """Return whether an update of a variable does not depend on the gradients of others, as `global_clipnorm` does."""
    values = [*_rows(0), *_rows(1)]
    first, second = (_updated(optimizer, values, others=size) for size in (1.0, 1e3))
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(first[:2], second[:2], strict=True))


def _rows(member):
    rng = np.random.default_rng(member)
    return [rng.normal(size=shape).astype("float32") for shape in ((3,), (3, 4))]


def _updated(optimizer, values, stacked=False, others=1.0):
    """Return the values after some steps of a copy of an optimizer."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    # Random transforms draw the same in every copy.
    copy = type(optimizer).from_config(optimizer.get_config())
    variables = [keras.Variable(value) for value in values]
    copy.build(variables)
    for size in _SIZES:
        gradients = [[size * np.cos(3 * row + size) for row in _rows(member)] for member in range(2)]
        gradients[1] = [7 * others * gradient for gradient in gradients[1]]
        flat = [np.stack(pair) for pair in zip(*gradients, strict=True)] if stacked else [*gradients[0], *gradients[1]]
        copy.apply([keras.ops.convert_to_tensor(g) for g in flat[: len(variables)]], variables)
    return [keras.ops.convert_to_numpy(v) for v in variables]
