"""What decompositions of the squared loss over a setting return."""

import dataclasses

import numpy as np

from keras_kicks._figures import new_figure, pixels
from keras_kicks._summaries import summary_writer
from keras_kicks._text_tables import aligned, markdown
from keras_kicks.diagnostics.bias_variance_picture import COLORS, tag_of
from keras_kicks.diagnostics.u_statistics import mean_over_groups


@dataclasses.dataclass(frozen=True, eq=False)
class BiasVarianceCurve:
    """The parts of the squared loss for each value of a setting; a table when printed.

    Args:
        values: The values.
        results: A `BiasVariance` for each.
        label: What the values are.
    """

    values: tuple
    results: tuple
    label: str = "value"

    def __getitem__(self, value):
        if value not in self.values:
            raise KeyError(f"{value!r}; there are: {', '.join(map(repr, self.values))}")
        return self.results[self.values.index(value)]

    def __str__(self):
        return aligned(self._rows(), left=())

    @property
    def best(self):
        """The value with the smallest loss."""
        return self.values[int(np.argmin(self.of("loss")))]

    def of(self, part):
        """Return a part for each value, as an array."""
        return np.array([result[part].value for result in self.results])

    def errors(self, part):
        """Return the standard errors of a part for each value, as an array."""
        return np.array([result[part].standard_error for result in self.results])

    def difference(self, value, other):
        """Return how much larger the loss of one value is than that of another, and the standard error of that.

        Both were trained on the same data sets from the same seeds, so that this is known better than either. The test
        points are taken as they are.
        """
        errors = []
        for result in (self[value], self[other]):
            squares = np.square(result.predictions - result.targets[:, None, None, None].mean(axis=0))
            independent = 0 if len(squares) > 1 else 1  # Of one data set, the initializations.
            errors.append(squares.mean(axis=tuple(i for i in range(5) if i != independent)))
        return mean_over_groups(errors[0] - errors[1])

    def picture(self, size=(7.0, 4.5)):
        """Draw the parts with standard errors over the values.

        Values over more than a factor of 10 are on a logarithmic axis, and so is the loss if it is over more than a
        factor of 20; there, estimates below the thousandth part of the smallest loss are left out.

        Args:
            size: Width and height in units of 100 pixels.

        Returns:
            uint8 array of shape (height, width, 3).

        Raises:
            ImportError: there is no matplotlib.
        """
        figure = new_figure("BiasVarianceCurve", size)
        axes, loss = figure.add_subplot(xlabel=self.label, ylabel="squared loss, +- standard error"), self.of("loss")
        x = np.array(self.values, "float64")
        logarithmic = loss.min() > 0 and loss.max() > 20 * loss.min()
        floor = loss.min() / 1000 if logarithmic else -np.inf
        colors = {**COLORS, **dict(zip(self.results[0].split, ("tab:red", "tab:purple", "tab:brown"), strict=False))}
        for name in self.results[0].parts:
            inner = name in self.results[0].split
            style = {"linestyle": ":", "alpha": 0.8} if inner else {"linewidth": 2 if name == "loss" else 1.5}
            style.update(color=colors[name], label=f"of {name}" if inner else name)
            shown = np.where(self.of(name) > floor, self.of(name), np.nan)
            axes.errorbar(x, shown, self.errors(name), marker="o", markersize=3, capsize=2, **style)
        axes.axvline(float(self.best), color="black", linewidth=0.8, linestyle="--", alpha=0.5)
        if x.min() > 0 and x.max() > 10 * x.min():
            axes.set_xscale("log")
        if logarithmic:
            axes.set_yscale("log", nonpositive="clip")
            axes.set_ylim(floor, loss.max() * 3)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        return pixels(figure)

    def write(self, log_dir, step=0, picture=True):
        """Write it for TensorBoard: `bias_variance_curve`, the table as a text, and `bias_variance_curve/picture`.

        The parts are scalars, `bias_variance_curve/<part>`, with the place of a value as TensorBoard's step.

        Args:
            log_dir: Directory of the run, or a writer of `tf.summary`.
            step: Step of the text and of the picture.
            picture: Whether to draw, which takes matplotlib.
        """
        with summary_writer(log_dir, step) as summary:
            for name in self.results[0].parts:
                for place, value in enumerate(self.of(name)):
                    summary.scalar(f"bias_variance_curve/{tag_of(name)}", value, step=place)
            summary.text("bias_variance_curve", markdown(self._rows()))
            if picture:
                summary.image("bias_variance_curve/picture", self.picture()[None])

    def _rows(self):
        names = list(self.results[0].parts)
        rows = [(self.label, *names)]
        for value, result in zip(self.values, self.results, strict=True):
            cells = (f"{result[name].value:.4g} +- {result[name].standard_error:.1g}" for name in names)
            rows.append((f"{value:g}", *cells))
        return rows
