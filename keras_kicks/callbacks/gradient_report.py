"""What the gradients of a while say about a model."""

import dataclasses
import math

import numpy as np

from keras_kicks._text_tables import aligned, markdown
from keras_kicks.callbacks.gradient_flow_picture import gradient_flow_picture

# Healthy networks, from ten plain layers to residual ones and transformers, stay within a factor of 25 from the first
# layers to the last; six sigmoid layers do not within 1000.
FACTOR = 100.0
# A share of dead units, or of saturated values, that is worth a sentence.
MUCH = 0.5


@dataclasses.dataclass(frozen=True)
class LayerFlow:
    """What is known of one layer: medians over the sampled steps.

    Args:
        path: Path of the layer in the model.
        gradient_norm: L2 norm of the gradient by its trainable weights; infinite if it ever was not finite. NaN, as
            everything else, where that is unknown.
        gradient_rms: Root mean square of the gradient's elements, of matrices and kernels alone where there are any;
            of a sparse gradient, in the rows that a batch has touched. It is what the verdict compares.
        update_ratio: Norm of a step's change of the weights over their norm.
        dead: Share of its ReLUs that are 0 for all of a batch, or None.
        saturated: Share of the values of its sigmoid, tanh or the like whose slope is less than a tenth of the
            largest, or None.
    """

    path: str
    gradient_norm: float = math.nan
    gradient_rms: float = math.nan
    update_ratio: float = math.nan
    dead: float | None = None
    saturated: float | None = None

    @property
    def known(self):
        """Whether anything is known of it."""
        return not math.isnan(self.gradient_norm) or self.dead is not None or self.saturated is not None


@dataclasses.dataclass(frozen=True)
class GradientReport:
    """The gradients of a model over some sampled steps; a table when printed.

    Args:
        layers: A `LayerFlow` for each layer with trainable weights or a watched activation, from the input on.
        steps: The first and the last of the sampled steps.
        norms: The norm of all gradients, for each sampled step.
        before: Median of the norms of the steps that were sampled before, or None.
    """

    layers: tuple
    steps: tuple
    norms: tuple
    before: float | None = None

    def __getitem__(self, path):
        found = {layer.path: layer for layer in self.layers}
        if path not in found:
            raise KeyError(f"{path!r}; there are: {', '.join(map(repr, found))}")
        return found[path]

    @property
    def verdict(self):
        """One of "exploding", "vanishing", "healthy" and "unknown".

        Exploding: a gradient is not finite; or, in all layers from some layer to the output, its root mean square is
        less than a hundredth of that in a layer before; or the norm of all gradients rose to more than a hundred times
        what it was in the median. Vanishing: in all layers from the input to some layer, it is less than a hundredth
        of that in a layer after. Unknown: no layer has a gradient, or only one.
        """
        return self._judged()[0]

    @property
    def reasons(self):
        """Sentences that say where, and what else is the matter."""
        return self._judged()[1]

    def _judged(self):
        layers = [layer for layer in self.layers if not math.isnan(layer.gradient_rms)]
        infinite = [layer.path for layer in self.layers if math.isinf(layer.gradient_norm)]
        verdict, reasons = "unknown", []
        if infinite:
            verdict, reasons = "exploding", [f"The gradient is not finite in {_listed(infinite)}."]
        elif len(layers) > 1:
            verdict, reasons = self._by_depth(layers)
        highest = max(self.norms, default=0.0)
        if self.before and not infinite and highest > FACTOR * self.before:
            times = highest / self.before
            verdict = "exploding"
            reasons.append(f"The norm of all gradients rose to {highest:.3g}, {times:.3g} times its median before.")
        return verdict, tuple(reasons + self._remarks(layers))

    def _by_depth(self, layers):
        rms = np.array([layer.gradient_rms for layer in layers])
        up_to = np.maximum.accumulate(rms)[:-1]
        after = np.maximum.accumulate(rms[::-1])[::-1][1:]
        lost, grown = np.flatnonzero(up_to * FACTOR < after), np.flatnonzero(up_to > after * FACTOR)
        if lost.size:
            last, most = layers[lost[-1]], layers[int(np.argmax(rms))]
            reason = f"In {_range(layers, 0, lost[-1])} the gradient is at most {_share(up_to[lost[-1]], rms.max())}"
            return "vanishing", [f"{reason} of that in {most.path}: vanishing from {last.path} to the input."]
        if grown.size and rms.any():
            first, most = layers[grown[0] + 1], layers[int(np.argmax(rms))]
            where = _range(layers, grown[0] + 1, len(layers) - 1)
            reason = f"In {where} the gradient is at most {_share(after[grown[0]], rms.max())} of that in {most.path}"
            return "exploding", [f"{reason}: exploding from {first.path} to the input."]
        return "healthy" if rms.any() else "vanishing", [] if rms.any() else ["No layer has a gradient but 0."]

    def _remarks(self, layers):
        none = [layer.path for layer in layers if layer.gradient_rms == 0]
        remarks = [f"No gradient reaches {_listed(none)}."] if none and len(none) < len(layers) else []
        for what, name in (("units are dead", "dead"), ("values are saturated", "saturated")):
            shares = {layer.path: getattr(layer, name) for layer in self.layers}
            much = [f"{path} ({share:.0%})" for path, share in shares.items() if (share or 0.0) > MUCH]
            if much:
                remarks.append(f"More than half of the {what} in {_listed(much)}.")
        return remarks

    def __str__(self):
        return "\n".join([aligned(self._rows(), left=(0,)), f"verdict: {self.verdict}", *self.reasons])

    def text(self):
        """Return the verdict and the table as Markdown."""
        steps = f"steps {self.steps[0]} to {self.steps[1]}, {len(self.norms)} of them"
        return "\n\n".join([f"**{self.verdict}** ({steps})", *self.reasons, markdown(self._rows())])

    def picture(self):
        """Return the gradient's root mean square in each layer, on a logarithmic scale.

        Returns:
            uint8 array of shape (height, width, 3).

        Raises:
            ImportError: there is no matplotlib.
        """
        return gradient_flow_picture({self.verdict: self})

    def _rows(self):
        rows = [("layer", "gradient norm", "rms", "update / weight", "dead", "saturated")]
        for layer in self.layers:
            numbers = (layer.gradient_norm, layer.gradient_rms, layer.update_ratio)
            cells = ("" if math.isnan(number) else f"{number:.3g}" for number in numbers)
            shares = ("" if share is None else f"{share:.1%}" for share in (layer.dead, layer.saturated))
            rows.append((layer.path, *cells, *shares))
        return rows


def _listed(paths):
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _range(layers, first, last):
    return layers[first].path if first == last else f"{layers[first].path} to {layers[last].path}"


def _share(part, whole):
    return "0" if part == 0 else f"{part / whole:.2g}"
