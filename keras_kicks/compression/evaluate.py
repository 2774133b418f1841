""".tflite files measured: accuracy, size and latency."""

import dataclasses

import keras
import numpy as np

from keras_kicks._errors import expect, expect_number
from keras_kicks.compression.compressed import Compressed
from keras_kicks.compression.lite_file import LiteFile
from keras_kicks.compression.samples import batches


def predict_tflite(path, x, num_threads=1):
    """Return what a .tflite file makes of inputs, as `model.predict` does.

    Where the file has int8 inputs or outputs they are quantized and dequantized here.

    Args:
        path: The file, from `to_tflite` or another converter.
        x: Array of samples, or a dict of arrays by name where the file takes several inputs: a file keeps the names of
            inputs but not their order.
        num_threads: Threads, >= 1.

    Returns:
        Array of the output; a list where the outputs have no names; a dict by name where they do.

    Raises:
        ImportError: ai-edge-litert is not installed.
        TypeError: `path` is no path, `num_threads` no integer, `x` not what the file takes.
        ValueError: expected a .tflite file that exists; num_threads >= 1; a sample in `x`, of the shapes of the inputs,
            finite.

    Example:
        >>> import os, tempfile
        >>> import numpy as np
        >>> from keras_kicks.compression import to_tflite
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.tflite")
        >>> written = to_tflite(model, path)
        >>> predict_tflite(path, np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[3.0], [7.0]]
    """
    return _structured(LiteFile("predict_tflite", path, num_threads).predict(x))


def evaluate_tflite(path, data, metric=None, threshold=0.5, num_threads=1):
    """Measure size, accuracy and latency of a .tflite file.

    The accuracy is that of the largest output, or with one output a sample that of `output > threshold`. The latency is
    that of LiteRT on this machine alone, without the quantization of inputs.

    Args:
        path: The file, from `to_tflite` or another converter, with one output.
        data: (x, y), or an iterable of batches (x, y) such as a `tf.data.Dataset`. Sample weights, as third, are not
            used. x as for `predict_tflite`; y are class ids, or as many numbers as there are outputs, whose largest is
            the class.
        metric: What is measured instead of the accuracy, as for regression: a `keras.metrics.Metric`, or its name, or a
            function of (y, outputs) whose mean is taken. Its value is the `score` of what is returned.
        threshold: Output above which the class is 1, where there is one output a sample: 0.5 for probabilities, 0 for
            logits.
        num_threads: Threads, >= 1.

    Returns:
        A `Compressed`: size, gzipped size, accuracy or score, and the median latency after warm-up.

    Raises:
        ImportError: ai-edge-litert is not installed.
        TypeError: `path` is no path, `num_threads` no integer, `data` not pairs of what the file takes and labels.
        ValueError: expected a .tflite file that exists, with one output; num_threads >= 1; a sample in the data, of the
            shapes of the inputs, finite; labels, one a sample, that are classes of the output.

    Example:
        >>> import os, tempfile
        >>> import numpy as np
        >>> from keras_kicks.compression import to_tflite
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.tflite")
        >>> written = to_tflite(model, path)
        >>> evaluate_tflite(path, (np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))).accuracy
        0.5
    """
    owner = "evaluate_tflite"
    expect_number(owner, threshold=threshold)
    file = LiteFile(owner, path, num_threads)
    outputs = sorted(file.outputs)
    expect(len(outputs) == 1, owner, "a file with one output", "Use predict_tflite.", outputs=outputs)
    labels, predictions = [], []
    for x, y in _pairs(owner, data):
        predictions.append(file.predict(x)[outputs[0]])
        labels.append(np.asarray(y))
        counts = {"labels": len(labels[-1]) if labels[-1].ndim else 0, "samples": len(predictions[-1])}
        expect(counts["labels"] == counts["samples"], owner, "one label a sample", **counts)
    expect(bool(labels), owner, "data with a sample in it", samples=0)
    y, predicted = np.concatenate(labels), np.concatenate(predictions)
    accuracy = _accuracy(owner, y, predicted, threshold) if metric is None else None
    score = None if metric is None else _score(metric, y, predicted)
    return dataclasses.replace(Compressed.of_file(file.path), accuracy=accuracy, score=score, latency=file.latency())


def _structured(outputs):
    """Return an array, a list in the order of `output_0`, `output_1` ..., or a dict."""
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    numbered = [f"output_{i}" for i in range(len(outputs))]
    return [outputs[name] for name in numbered] if set(outputs) == set(numbered) else outputs


def _pairs(owner, data):
    """Yield (x, y) for each batch."""
    for batch in [data] if isinstance(data, tuple) else batches(owner, data):
        pair = isinstance(batch, (tuple, list)) and len(batch) in (2, 3)
        remedy = "Pass (x, y), or batches of that."
        expect(pair, owner, "pairs of inputs and labels", remedy, TypeError, data=type(batch).__name__)
        yield batch[0], batch[1]


def _accuracy(owner, y, outputs, threshold):
    """Return the share of samples, or of places in them, whose class is the label."""
    remedy = "For regression pass a metric."
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        classes, given, predicted = 2, y.ravel(), (outputs > threshold).ravel()
        expect(given.shape == predicted.shape, owner, f"labels of shape {outputs.shape}", remedy, labels=y.shape)
    else:
        classes, predicted = outputs.shape[-1], outputs.argmax(-1)
        if y.shape == outputs.shape:
            given = y.argmax(-1)
        else:
            rule = f"labels of shape {predicted.shape} or {outputs.shape}"
            expect(y.size == predicted.size, owner, rule, remedy, labels=y.shape)
            given = y.reshape(predicted.shape)
    valid = bool(np.isin(given, np.arange(classes)).all())
    expect(
        valid,
        owner,
        f"class ids from 0 to {classes - 1}",
        remedy,
        lowest=given.min().item(),
        highest=given.max().item(),
    )
    return float((predicted == given).mean())


def _score(metric, y, outputs):
    metric = keras.metrics.get(metric)
    if isinstance(metric, keras.metrics.Metric):
        metric.reset_state()
        metric.update_state(y, outputs)
        return float(metric.result())
    return float(np.mean(keras.ops.convert_to_numpy(metric(y, outputs))))
