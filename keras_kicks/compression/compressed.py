"""What a compressed model is worth."""

import dataclasses
import gzip
import os

import keras


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Size of the file of a compressed model, and what was measured with it.

    Args:
        path: The file.
        size: Bytes of the file.
        gzipped_size: Bytes of the file after gzip at level 9: what is downloaded, and where zeros and repeated weights
            count.
        mode: How it was compressed, as "int8"; None if that is not known.
        weights_size: Bytes of the weights of the model in memory, or None.
        accuracy: Fraction of samples that were classified rightly, in [0, 1], or None.
        latency: Median milliseconds for one sample, or None.
        score: Value of the metric that `evaluate_tflite` was given, or None.

    Example:
        >>> print(Compressed("model.tflite", 20480, 10240, "int8", 81920, accuracy=0.975))
        model.tflite: int8, 20.0 KB (0.25 of the weights), 10.0 KB gzipped, accuracy 0.9750
    """

    path: str
    size: int
    gzipped_size: int
    mode: str | None = None
    weights_size: int | None = None
    accuracy: float | None = None
    latency: float | None = None
    score: float | None = None

    @classmethod
    def of_file(cls, path, mode=None, weights_size=None):
        """Return the sizes of a file."""
        with open(path, "rb") as file:
            content = file.read()
        return cls(os.fspath(path), len(content), len(gzip.compress(content, 9)), mode, weights_size)

    def row(self):
        """Return mode, KB, gzipped KB, accuracy and milliseconds as strings, for a table; "-" for what is None."""
        return [
            self.mode or "-",
            f"{self.size / 1024:.1f}",
            f"{self.gzipped_size / 1024:.1f}",
            "-" if self.accuracy is None else f"{self.accuracy:.4f}",
            "-" if self.latency is None else f"{self.latency:.4f}",
        ]

    def __str__(self):
        mode, size, gzipped, accuracy, latency = self.row()
        share = f" ({self.size / self.weights_size:.2f} of the weights)" if self.weights_size else ""
        parts = [f"{size} KB{share}", f"{gzipped} KB gzipped"]
        parts = [mode, *parts] if self.mode else parts
        parts += [f"accuracy {accuracy}"] if self.accuracy is not None else []
        parts += [f"score {self.score:.4f}"] if self.score is not None else []
        parts += [f"{latency} ms per sample"] if self.latency is not None else []
        return f"{self.path}: {', '.join(parts)}"


def weights_size(model):
    """Return the bytes of the weights of a model."""
    return sum(keras.ops.convert_to_numpy(weight).nbytes for weight in model.weights)
