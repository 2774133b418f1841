"""Small variables side by side: what a step costs is then not their number."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

# Elements of a variable that is put beside others: up to here copying it costs less than an operation more.
SMALL = 16384


@dataclasses.dataclass(frozen=True)
class Block:
    """One variable, or several laid out in one vector.

    Attributes:
        places: Places of the variables among all.
        shapes: Their shapes.
        shape: That of the block.
        dtype: In which the block is computed: float32 or wider.
        path: Path of the variable; "" for several.
    """

    places: tuple
    shapes: tuple
    shape: tuple
    dtype: str
    path: str

    @property
    def single(self):
        """Whether the block is one variable as it is."""
        return len(self.places) == 1

    def pack(self, tensors):
        """Lay the tensors out, of which there is one by place; zeros for those that are missing."""
        if self.single:
            return ops.cast(tensors[self.places[0]], self.dtype)
        parts = [
            ops.reshape(ops.cast(tensors[place], self.dtype), (-1,))
            if place in tensors
            else ops.zeros((math.prod(shape),), self.dtype)
            for place, shape in zip(self.places, self.shapes, strict=True)
        ]
        return ops.concatenate(parts)

    def unpack(self, tensor):
        """Return the tensors by place."""
        if self.single:
            return {self.places[0]: tensor}
        edges = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1].tolist()
        parts = ops.split(tensor, edges)
        return {p: ops.reshape(part, shape) for p, part, shape in zip(self.places, parts, self.shapes, strict=True)}

    def spread(self, numbers):
        """Return one number for each variable as one for each element, or a single one."""
        values = [numbers[place] for place in self.places]
        if len(set(values)) == 1:
            return values[0]
        return np.repeat(values, [math.prod(shape) for shape in self.shapes])


def blocks_of(variables, joined):
    """Return the blocks of a list of variables.

    Args:
        variables: Keras variables.
        joined: Whether small ones may be put side by side.
    """
    small, blocks = {}, []
    for place, variable in enumerate(variables):
        shape, dtype = tuple(variable.shape), keras.backend.result_type(variable.dtype, "float32")
        alone = getattr(variable, "_layout", None) is not None or math.prod(shape) > SMALL
        if joined and not alone:
            small.setdefault(dtype, []).append((place, shape))
        else:
            blocks.append(Block((place,), (shape,), shape, dtype, variable.path))
    for dtype, members in small.items():
        places, shapes = zip(*members, strict=True)
        if len(places) == 1:
            blocks.append(Block(places, shapes, shapes[0], dtype, variables[places[0]].path))
        else:
            blocks.append(Block(places, shapes, (sum(math.prod(shape) for shape in shapes),), dtype, ""))
    return sorted(blocks, key=lambda block: block.places)
