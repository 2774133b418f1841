"""How many weights of a model are zero."""

import dataclasses

import numpy as np
from keras import ops

from keras_kicks._layer_tree import parts_by_path
from keras_kicks.compression.keras_layers import all_layers
from keras_kicks.compression.prunable import prunable_kernels
from keras_kicks.compression.prune import expect_model
from keras_kicks.compression.pruning_constraint import PruningConstraint


@dataclasses.dataclass(frozen=True)
class SparsityRow:
    """A weight of a layer, or all of them together.

    Attributes:
        path: Names of the layers that it is in, and its own: what no other weight has.
        shape: Shape; None of several weights.
        weights: Number of weights.
        zeros: Number of those that are zero.
    """

    path: str
    shape: tuple | None
    weights: int
    zeros: int

    @property
    def sparsity(self):
        """Share of weights that are zero."""
        return self.zeros / self.weights if self.weights else 0.0


@dataclasses.dataclass(frozen=True)
class SparsityReport:
    """The sparsity of a model; a table when printed.

    Attributes:
        rows: A row for each weight that can be pruned.
        total: All of them together.
        parameters: All weights of the model together, also biases and statistics, without what pruning added.
    """

    rows: tuple
    total: SparsityRow
    parameters: SparsityRow

    def __str__(self):
        lines = [("weight", "shape", "weights", "zeros", "sparsity")]
        for row in (*self.rows, self.total, self.parameters):
            shape = "" if row.shape is None else "x".join(map(str, row.shape))
            lines.append((row.path, shape, f"{row.weights:,}", f"{row.zeros:,}", f"{row.sparsity:.1%}"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(pairs)
            ).rstrip()
            for pairs in (list(zip(line, widths, strict=True)) for line in lines)
        )


def sparsity_report(model):
    """Count the zeros in the weights of a model that can be pruned, whether it is prepared, stripped or neither.

    Args:
        model: A built model. Of a layer of one's own that does not say what can be pruned, weights of rank 2 and more
            are counted.

    Returns:
        A `SparsityReport`: `rows` with path, shape, weights, zeros and sparsity, their `total`, and `parameters` for
        all of the model. It prints as a table.

    Raises:
        TypeError: `model` is no layer of Keras 3.
        ValueError: expected a built model.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="hidden")])
        >>> model.set_weights([np.array([[0, 1], [0, 2], [0, 3]]), np.zeros(2)])
        >>> report = sparsity_report(model)
        >>> report.total.sparsity
        0.5
        >>> print(report)
        weight         shape  weights  zeros  sparsity
        hidden/kernel  3x2          6      3     50.0%
        total                       6      3     50.0%
        parameters                  8      5     62.5%
    """
    owner = "sparsity_report"
    expect_model(owner, model)
    rows = tuple(_row(path, (v,), tuple(v.shape)) for path, v in kernels_by_path(owner, model).items())
    total = SparsityRow("total", None, sum(row.weights for row in rows), sum(row.zeros for row in rows))
    return SparsityReport(rows, total, _row("parameters", _parameters(model)))


def kernels_by_path(owner, model):
    """Return the weights of a model that can be pruned, by a path that no other has."""
    paths = {id(part): path for path, part in parts_by_path(model).items()}
    found = {}
    for kernel in prunable_kernels(model, owner, task="report"):
        # What layers keep to themselves has no path but that of its variables.
        inside = paths.get(id(kernel.layer))
        path = kernel.variable.path if inside is None else f"{inside}/{kernel.variable.name}".lstrip("/")
        unique, count = path, 0
        while unique in found:
            count += 1
            unique = f"{path}_{count}"
        found[unique] = kernel.variable
    return found


def _parameters(model):
    added = {id(w) for part in all_layers(model) if isinstance(part, PruningConstraint) for w in part.weights}
    return [weight for weight in model.weights if id(weight) not in added]


def _row(path, variables, shape=None):
    weights = sum(int(np.prod(v.shape)) for v in variables)
    zeros = sum(int(np.sum(ops.convert_to_numpy(v) == 0)) for v in variables)
    return SparsityRow(path, shape, weights, zeros)
