"""Seeds that are any integer, where NumPy takes none below zero."""


def numpy_seed(seed):
    """Return a seed as NumPy takes it: None, or an integer in [0, 2**64)."""
    return None if seed is None else int(seed) % 2**64
