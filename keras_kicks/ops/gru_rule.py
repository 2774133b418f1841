"""One step of a gated recurrent unit, forward and backward."""

import dataclasses

from keras import ops

from keras_kicks.ops.position_sums import sum_steps
from keras_kicks.ops.recurrence_rule import Rule
from keras_kicks.ops.row_norm import normalize, normalize_gradient
from keras_kicks.ops.squash import scales, slope, squash


@dataclasses.dataclass(frozen=True)
class GRURule(Rule):
    """The step of `keras_kicks.layers.GRUCell`; the equations are in its docstring.

    Weights: "recurrent_kernel", or, where the reset gate comes first, "gates_kernel" (for z and r) and
    "candidate_kernel"; if they are there "bias", "recurrent_bias" (with `reset_after`), "gates_gamma" and
    "candidate_gamma". A constant "recurrent_mask" multiplies the hidden state before its products.

    Attributes:
        units: Width of the state.
        reset_after: Whether the reset gate multiplies the product with the state, or the state before it.
        epsilon: Of the layer normalization, or None without one.
        dropped: Whether there is a "recurrent_mask".
    """

    units: int
    reset_after: bool = True
    epsilon: float | None = None
    dropped: bool = False

    products = frozenset({"recurrent_kernel", "gates_kernel", "candidate_kernel"})

    def forward(self, x, states, w, extras):
        """Make one step; keeps the gates and the candidate, its recurrent part, and what layer normalization needs."""
        (h,) = states
        u = self.units
        seen = self._dropped(h, w)
        if "bias" in w:
            x = x + w["bias"]
        product = ops.matmul(seen, w["recurrent_kernel" if self.reset_after else "gates_kernel"])
        gates, norms = self._normal(product[:, : 2 * u], w, "gates", 0)
        gates = squash(x[:, : 2 * u] + gates, scales("ss", u, x.dtype))
        z, r = gates[:, :u], gates[:, u:]
        inner = product[:, 2 * u :] if self.reset_after else ops.matmul(r * seen, w["candidate_kernel"])
        inner, more_norms = self._normal(inner, w, "candidate", 2 * u)
        candidate = ops.tanh(x[:, 2 * u :] + (r * inner if self.reset_after else inner))
        kept = (gates, candidate, inner) if self.reset_after else (gates, candidate)
        return (candidate + z * (h - candidate),), (*kept, *norms, *more_norms)

    def _dropped(self, h, w):
        return h * w["recurrent_mask"] if self.dropped else h

    def _normal(self, product, w, name, start):
        """A product with the state, normalized and shifted; and what the gradient needs of it."""
        norms = ()
        if self.epsilon is not None:
            norms = normalize(product, self.epsilon)
            product = norms[0] * w[f"{name}_gamma"]
        if "recurrent_bias" in w:
            product = product + w["recurrent_bias"][start : start + product.shape[-1]]
        return product, norms

    def prepare(self, w):
        """Transpose the matrices once, for products that read them in order."""
        return {**w, **{f"{name}_t": ops.transpose(w[name]) for name in self.products if name in w}}

    def _opened(self, kept):
        """What was kept, by name; the inner part is None where the reset gate comes first."""
        gates, candidate, *rest = kept
        inner = rest.pop(0) if self.reset_after else None
        return gates, candidate, inner, rest

    def backward(self, states, kept, w, extras, dstates):
        """Make the step's gradient."""
        (h,), (dh,) = states, dstates
        u = self.units
        gates, candidate, inner, norms = self._opened(kept)
        z, r = gates[:, :u], gates[:, u:]
        da = dh * (1 - z) * (1 - ops.square(candidate))
        dinner = da * r if self.reset_after else da
        if self.epsilon is not None:
            dinner = normalize_gradient(dinner * w["candidate_gamma"], *norms[2:])
        back = None if self.reset_after else ops.matmul(dinner, w["candidate_kernel_t"])
        dr = da * inner if self.reset_after else back * self._dropped(h, w)
        dgates = slope(gates, scales("ss", u, gates.dtype)) * ops.concatenate([dh * (h - candidate), dr], axis=-1)
        dproduct = dgates
        if self.epsilon is not None:
            dproduct = normalize_gradient(dgates * w["gates_gamma"], *norms[:2])
        if self.reset_after:
            dproduct = ops.concatenate([dproduct, dinner], axis=-1)
            seen = ops.matmul(dproduct, w["recurrent_kernel_t"])
            more = () if self.epsilon is None else (dproduct,)
        else:
            seen = ops.matmul(dproduct, w["gates_kernel_t"]) + back * r
            more = () if self.epsilon is None else (dproduct, dinner)
        return ops.concatenate([dgates, da], axis=-1), (dh * z + self._dropped(seen, w),), more

    def finish(self, states, kept, dx, more, w):
        """Make the gradients of the weights."""
        (h,) = states
        u = self.units
        gates, _, _, norms = self._opened(kept)
        z_and_r, da = dx[..., : 2 * u], dx[..., 2 * u :]
        r = gates[..., u:]
        inner = da * r if self.reset_after else da
        seen = self._dropped(h, w)
        gradients = {"bias": sum_steps(lambda dx: dx, dx)}
        if self.reset_after:
            dproduct = more[0] if more else ops.concatenate([z_and_r, inner], axis=-1)
            gradients["recurrent_kernel"] = (seen, dproduct)
            gradients["recurrent_bias"] = ops.concatenate([sum_steps(lambda d: d, part) for part in (z_and_r, inner)])
        else:
            dproduct, dinner = more or (z_and_r, da)
            gradients["gates_kernel"], gradients["candidate_kernel"] = (seen, dproduct), (r * seen, dinner)
        if self.epsilon is not None:
            gradients["gates_gamma"] = sum_steps(lambda d, y: d * y, z_and_r, norms[0])
            gradients["candidate_gamma"] = sum_steps(lambda d, y: d * y, inner, norms[2])
        return gradients
