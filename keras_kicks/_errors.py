"""The one sentence every wrong argument is answered with."""

import math
import numbers


def expect(holds, owner, rule, remedy="", error=ValueError, **got):
    """Raise `Owner: expected RULE; got name=value. Remedy.` unless `holds`.

    Args:
        holds: Whether the rule is kept.
        owner: Name of the class or function that was called.
        rule: What was expected, as the `Raises:` section of its docstring says it.
        remedy: What to do instead: a whole sentence, or empty where the rule says it already.
        error: `ValueError` for a wrong value, `TypeError` for a wrong kind.
        **got: The offending arguments.

    Raises:
        ValueError: or `error`, if `holds` is false.
    """
    if not holds:
        values = ", ".join(f"{name}={value!r}" for name, value in got.items())
        raise error(f"{owner}: expected {rule}; got {values}. {remedy}".rstrip())


def expect_number(owner, remedy="", **got):
    """Raise TypeError unless every argument is a real number (bool is none), ValueError if it is NaN or infinite."""
    for name, value in got.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        expect(is_number, owner, f"a number for {name}", remedy, TypeError, **{name: value})
        expect(math.isfinite(value), owner, f"a finite {name}", remedy, **{name: value})


def expect_integer(owner, remedy="", **got):
    """Raise TypeError unless every argument is an integer (bool is none)."""
    for name, value in got.items():
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        expect(is_integer, owner, f"an integer for {name}", remedy, TypeError, **{name: value})


def expect_rate(owner, remedy="", **got):
    """Raise unless every argument is a number in [0, 1)."""
    for name, value in got.items():
        expect_number(owner, remedy, **{name: value})
        expect(0 <= value < 1, owner, f"0 <= {name} < 1", remedy, **{name: value})


def expect_choice(owner, choices, **got):
    """Raise ValueError unless every argument is one of `choices`."""
    for name, value in got.items():
        listed = ", ".join(repr(choice) for choice in choices)
        expect(value in choices, owner, f"{name} to be one of {listed}", **{name: value})


def expect_seed(owner, seed):
    """Raise TypeError unless `seed` is None or an integer."""
    if seed is not None:
        expect_integer(owner, "Pass None or an integer.", seed=seed)
