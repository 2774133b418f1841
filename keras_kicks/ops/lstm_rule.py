"""One step of long short-term memory, forward and backward, in all its variants."""

import dataclasses

from keras import ops

from keras_kicks.ops.position_sums import sum_steps
from keras_kicks.ops.recurrence_rule import Rule
from keras_kicks.ops.row_norm import normalize, normalize_gradient
from keras_kicks.ops.squash import scales, squash


@dataclasses.dataclass(frozen=True)
class LSTMRule(Rule):
    """The step of `keras_kicks.layers.LSTMCell`; the equations are in its docstring.

    Weights: "recurrent_kernel"; if they are there "bias", "peephole_gates" and "peephole_output" (vectors or matrices),
    "projection", "recurrent_gamma", "cell_gamma" and "cell_beta". A constant "recurrent_mask" multiplies the
    hidden state before its product.

    Attributes:
        units: Width of the cell state.
        coupled: Whether the input gate is 1 - f; the blocks of columns are then f, g, o and else i, f, g, o.
        peephole: None, "diagonal" or "full".
        epsilon: Of the layer normalization, or None without one.
        projected: Whether the hidden state is a projection.
        dropped: Whether there is a "recurrent_mask".
    """

    units: int
    coupled: bool = False
    peephole: str | None = None
    epsilon: float | None = None
    projected: bool = False
    dropped: bool = False

    @property
    def products(self):
        """The matrices."""
        peepholes = {"peephole_gates", "peephole_output"} if self.peephole == "full" else set()
        return frozenset({"recurrent_kernel", "projection"} | peepholes)

    def forward(self, x, states, w, extras):
        """Make one step; keeps the gates, tanh of the (normalized) cell state, and what layer normalization needs."""
        h, c = states
        z = ops.matmul(self._dropped(h, w), w["recurrent_kernel"])
        norms = ()
        if self.epsilon is not None:
            norms = normalize(z, self.epsilon)
            z = norms[0] * w["recurrent_gamma"]
        z = x + z
        if "bias" in w:
            z = z + w["bias"]
        gates, c = self._gates(z, c, w)
        shown = c
        if self.epsilon is not None:
            normal, rstd = normalize(c, self.epsilon)
            shown = normal * w["cell_gamma"] + w["cell_beta"]
            norms = (*norms, normal, rstd)
        tanh = ops.tanh(shown)
        h = gates[:, -self.units :] * tanh
        if self.projected:
            h = ops.matmul(h, w["projection"])
        return (h, c), (gates, tanh, *norms)

    def _dropped(self, h, w):
        return h * w["recurrent_mask"] if self.dropped else h

    def _kinds(self):
        return "sts" if self.coupled else "ssts"

    def _gates(self, z, c, w):
        """The gates from their inputs, and the new cell state."""
        scale = scales(self._kinds(), self.units, z.dtype)
        u = self.units
        if self.peephole is None:
            gates = squash(z, scale)
            return gates, self._cell(gates, c)
        # Block by block: XLA would copy the state beside itself.
        blocks = [z[:, k : k + u] for k in range(0, z.shape[-1], u)]
        for k, seen in enumerate(self._look(c, w["peephole_gates"])):
            blocks[k] = blocks[k] + seen
        inner = [squash(block, scale[k * u]) for k, block in enumerate(blocks[:-1])]
        c = self._new_cell(*inner, c)
        (seen,) = self._look(c, w["peephole_output"])
        return ops.concatenate([*inner, squash(blocks[-1] + seen, scale[-1])], axis=-1), c

    def _look(self, c, peephole):
        """What the gates see of the cell state, block by block."""
        u = self.units
        if self.peephole == "full":
            seen = ops.matmul(c, peephole)
            return [seen[:, k : k + u] for k in range(0, seen.shape[-1], u)]
        return [c * peephole[k : k + u] for k in range(0, peephole.shape[0], u)]

    def _look_back(self, dz, w, name):
        """The gradients by the cell state that each block saw, or their sum."""
        u = self.units
        if self.peephole == "full":
            return [ops.matmul(ops.concatenate(dz, axis=-1), w[f"{name}_t"])]
        return [block * w[name][k * u : (k + 1) * u] for k, block in enumerate(dz)]

    def _cell(self, gates, c):
        blocks = [gates[..., k : k + self.units] for k in range(0, gates.shape[-1], self.units)]
        return self._new_cell(*blocks[: 2 if self.coupled else 3], c)

    def _new_cell(self, *values):
        if self.coupled:
            f, g, c = values
            return g + f * (c - g)
        i, f, g, c = values
        return f * c + i * g

    def prepare(self, w):
        """Transpose the matrices once, for products that read them in order."""
        return {**w, **{f"{name}_t": ops.transpose(w[name]) for name in self.products if name in w}}

    def backward(self, states, kept, w, extras, dstates):
        """Make the step's gradient."""
        _, c = states
        gates, tanh, *norms = kept
        dh, dc = dstates
        u, more = self.units, ()
        if self.projected:
            more = (dh,)
            dh = ops.matmul(dh, w["projection_t"])
        o = gates[:, -u:]
        shown = dh * o * (1 - ops.square(tanh))
        if self.epsilon is not None:
            more = (*more, shown)
            shown = normalize_gradient(shown * w["cell_gamma"], *norms[2:])
        dc = dc + shown
        do = dh * tanh * o * (1 - o)
        if self.peephole is not None:
            dc = dc + sum(self._look_back([do], w, "peephole_output"))
        dz, dc = self._cell_backward(gates, c, dc)
        if self.peephole is not None:
            dc = dc + sum(self._look_back(dz[:-1], w, "peephole_gates"))
        dz = ops.concatenate([*dz, do], axis=-1)
        dr = dz
        if self.epsilon is not None:
            dr = normalize_gradient(dz * w["recurrent_gamma"], *norms[:2])
            more = (*more, dr)
        dh = self._dropped(ops.matmul(dr, w["recurrent_kernel_t"]), w)
        return dz, (dh, dc), more

    def _cell_backward(self, gates, c, dc):
        """The gradients by the inputs of all gates but the last, block by block, and by the old cell state."""
        u = self.units
        if self.coupled:
            f, g = gates[:, :u], gates[:, u : 2 * u]
            return [dc * (c - g) * f * (1 - f), dc * (1 - f) * (1 - ops.square(g))], dc * f
        i, f, g = gates[:, :u], gates[:, u : 2 * u], gates[:, 2 * u : 3 * u]
        return [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - ops.square(g))], dc * f

    def finish(self, states, kept, dx, more, w):
        """Make the gradients of the weights."""
        h, c = states
        gates, tanh, *norms = kept
        more = list(more)
        gradients = {"bias": sum_steps(lambda dx: dx, dx)}
        if self.projected:
            gradients["projection"] = (gates[..., -self.units :] * tanh, more.pop(0))
        right = None
        if self.epsilon is not None:
            shown, right = more
            gradients["cell_gamma"] = sum_steps(lambda d, y: d * y, shown, norms[2])
            gradients["cell_beta"] = sum_steps(lambda d: d, shown)
            gradients["recurrent_gamma"] = sum_steps(lambda d, y: d * y, dx, norms[0])
        gradients["recurrent_kernel"] = (self._dropped(h, w), right)
        if self.peephole is not None:
            looking = self.units if self.coupled else 2 * self.units
            pairs = {
                "peephole_gates": (c, dx[..., :looking]),
                "peephole_output": (self._cell(gates, c), dx[..., -self.units :]),
            }
            gradients.update(pairs if self.peephole == "full" else {k: self._diagonal(*v) for k, v in pairs.items()})
        return gradients

    def _diagonal(self, c, dz):
        u = self.units
        blocks = (dz[..., k : k + u] for k in range(0, dz.shape[-1], u))
        return ops.concatenate([sum_steps(lambda d, c: d * c, block, c) for block in blocks])
