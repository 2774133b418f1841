"""What a decomposition of the squared loss returns."""

import dataclasses

import numpy as np

from keras_kicks._summaries import summary_writer
from keras_kicks._text_tables import aligned, markdown
from keras_kicks.diagnostics.bias_variance_picture import bias_variance_picture, tag_of


@dataclasses.dataclass(frozen=True, eq=False)
class BiasVariance:
    """The parts of the expected squared loss; a table when printed.

    `result["variance"]` is one part: its `value`, `standard_error` and the estimates `per_point`. There are "bias^2"
    and "noise", or "bias^2 + noise"; "variance", and within it "data", "initialization" and "order", of which those
    with a single replicate are joined: "initialization and order"; and "loss".

    Args:
        parts: The parts by name.
        predictions: float64 array of shape (data sets, initializations, orders, points, outputs).
        targets: What they were compared with, shape (observations, points, outputs).
        x_test: The test points, or None if these are no array.
    """

    parts: dict
    predictions: np.ndarray
    targets: np.ndarray
    x_test: np.ndarray | None = None

    def __getitem__(self, name):
        if name not in self.parts:
            raise KeyError(f"{name!r}; there are: {', '.join(map(repr, self.parts))}")
        return self.parts[name]

    @property
    def split(self):
        """The parts of the variance by name; empty where there is one."""
        names = list(self.parts)
        return {name: self.parts[name] for name in names[names.index("variance") + 1 : names.index("loss")]}

    def __str__(self):
        return aligned(self._rows(), left=(0,))

    def picture(self):
        """Return the parts as bars with standard errors; for a single input also all predictions over it.

        Returns:
            uint8 array of shape (height, width, 3).

        Raises:
            ImportError: there is no matplotlib.
        """
        return bias_variance_picture(self)

    def write(self, log_dir, step=0, picture=True):
        """Write it for TensorBoard.

        - `bias_variance/<part>` and `bias_variance/<part>/standard_error` at `step`;
        - `bias_variance` at `step`: the table as a text, and `bias_variance/picture`.

        Args:
            log_dir: Directory of the run, or a writer of `tf.summary`.
            step: Step at which it is shown, such as a number of epochs or of units.
            picture: Whether to draw, which takes matplotlib.
        """
        with summary_writer(log_dir, step) as summary:
            for name, part in self.parts.items():
                tag = f"bias_variance/{tag_of(name)}"
                summary.scalar(tag, part.value)
                summary.scalar(f"{tag}/standard_error", part.standard_error)
            summary.text("bias_variance", markdown(self._rows()))
            if picture:
                summary.image("bias_variance/picture", self.picture()[None])

    def _rows(self):
        rows, inner = [("part", "value", "standard error", "share of the loss")], self.split
        for name, part in self.parts.items():
            share = part.value / self.parts["loss"].value if self.parts["loss"].value else np.nan
            label = f"  of {name}" if name in inner else name
            rows.append((label, f"{part.value:.4g}", f"{part.standard_error:.2g}", f"{share:.1%}"))
        return rows
