"""Gradient transforms, the links of `keras_kicks.optimizers.Chain`."""
