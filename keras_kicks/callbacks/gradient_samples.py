"""Sampled steps, put together to a report."""

import dataclasses

import numpy as np

from keras_kicks.callbacks.gradient_report import GradientReport, LayerFlow
from keras_kicks.callbacks.watched_activations import is_dead_kind


@dataclasses.dataclass(frozen=True)
class GradientSample:
    """One sampled step.

    Attributes:
        step: Its number.
        statistics: By path of a layer, the `VariableStatistics` by the name of its variables; None for a variable
            without a gradient.
        shares: Shares of dead units or saturated values by path; NaN where the layer was not seen.
    """

    step: int
    statistics: dict
    shares: dict

    @property
    def gradient_norm(self):
        """The norm of all gradients."""
        return _norm([v.gradient_norm for layer in self.statistics.values() for v in _known(layer)])

    def numbers(self, path):
        """Return `gradient_norm` and `update_ratio` of a layer; the second only where its weights are not 0."""
        known = _known(self.statistics[path])
        weight, update = _norm([v.weight_norm for v in known]), _norm([v.update_norm for v in known])
        ratio = {"update_ratio": update / weight} if weight > 0 else {}
        return {"gradient_norm": _norm([v.gradient_norm for v in known]), **ratio}


def report(samples, paths, kinds, before):
    """Return what samples say, in the median.

    Args:
        samples: List of `GradientSample`.
        paths: Dict of all paths of layers, in the order of the report; the values are the sets of names of those
            variables that the verdict compares.
        kinds: Kind of the activation by path, of those that are watched.
        before: Norms of all gradients in the steps that were sampled earlier.
    """
    layers = [_layer(path, compared, samples, kinds.get(path)) for path, compared in paths.items()]
    return GradientReport(
        # An activation may be where it is not seen.
        layers=tuple(layer for layer in layers if layer.known),
        steps=(samples[0].step, samples[-1].step),
        norms=tuple(sample.gradient_norm for sample in samples),
        before=float(np.median(before)) if len(before) else None,
    )


def _layer(path, compared, samples, kind):
    found = [sample for sample in samples if path in sample.statistics]
    numbers = np.array([_numbers(sample, path, compared) for sample in found] or [(np.nan,) * 3])
    # What was infinite once is worth to be known.
    middle = [float(np.inf if np.isinf(column).any() else _median(column)) for column in numbers.T]
    share = None
    if kind is not None:
        share = float(_median([sample.shares[path] for sample in samples]))
        share = None if np.isnan(share) else share
    return LayerFlow(path, *middle, **{"dead" if is_dead_kind(kind) else "saturated": share})


def _numbers(sample, path, compared):
    """Return gradient norm, root mean square and update ratio of one layer in one step."""
    numbers = sample.numbers(path)
    part = [v for name, v in sample.statistics[path].items() if v is not None and name in compared]
    elements = sum(v.elements for v in part)
    rms = _norm([v.gradient_norm for v in part]) / np.sqrt(elements) if elements else 0.0
    return numbers["gradient_norm"], rms if compared else np.nan, numbers.get("update_ratio", np.nan)


def _known(layer):
    return [v for v in layer.values() if v is not None]


def _norm(norms):
    return float(np.linalg.norm(np.array(norms, "float64"))) if norms else 0.0


def _median(values):
    values = np.asarray(values, "float64")
    values = values[~np.isnan(values)]
    return np.median(values) if values.size else np.nan
