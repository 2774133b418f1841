"""A .tflite file that can be run."""

import contextlib
import statistics
import time

import keras
import numpy as np

from keras_kicks._errors import expect, expect_integer
from keras_kicks.compression.samples import named_arrays, rows_of
from keras_kicks.compression.served import Signature
from keras_kicks.compression.whole_file import expect_source


class LiteFile:
    """A .tflite file on LiteRT's interpreter, that takes and gives float32 where the file has int8 or uint8.

    Args:
        owner: Name for the error messages.
        path: The file.
        num_threads: Threads, >= 1.

    Raises:
        ImportError: ai-edge-litert is not installed.
        TypeError: `path` is no path, `num_threads` no integer.
        ValueError: expected a .tflite file that exists; num_threads >= 1.
    """

    def __init__(self, owner, path, num_threads):
        self.owner = owner
        self.path = expect_source(owner, path)
        expect_integer(owner, num_threads=num_threads)
        expect(num_threads >= 1, owner, "num_threads >= 1", num_threads=num_threads)
        interpreter = _interpreter_class(owner)
        with self._only_what_runs():
            self.interpreter = interpreter(self.path, num_threads=int(num_threads))
        self.inputs, self.outputs = self._details()
        specs = {name: _spec(detail) for name, detail in self.inputs.items()}
        single = next(iter(specs.values())) if len(specs) == 1 else None
        names = list(specs) if single else sorted(specs)
        self.signature = Signature(single or specs, names, False)
        self.batch = self.signature.specs[0].shape[0]

    def predict(self, x):
        """Return `{name: array}` of the outputs for inputs as the model took them, by name where it takes several."""
        arrays = named_arrays(self.owner, x, self.signature)
        count = len(next(iter(arrays.values())))
        expect(count > 0, self.owner, "data with a sample in it", samples=0)
        self._resize(arrays)
        results = []
        for rows in rows_of(count, self.batch):
            for name, array in arrays.items():
                detail = self.inputs[name]
                self.interpreter.set_tensor(detail["index"], _quantized(array[rows], detail))
            self.interpreter.invoke()
            results.append(
                {n: _dequantized(self.interpreter.get_tensor(d["index"]), d) for n, d in self.outputs.items()}
            )
        return {name: np.concatenate([result[name] for result in results])[:count] for name in self.outputs}

    def latency(self, warm_up=10, runs=100, seconds=2.0):
        """Return the median milliseconds for one sample, with the inputs that were set last."""
        times, end = [], time.perf_counter() + seconds
        while len(times) < warm_up + runs and (len(times) <= warm_up or time.perf_counter() < end):
            start = time.perf_counter()
            self.interpreter.invoke()
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times[warm_up:]) / self.batch

    def _details(self):
        """Return the details of inputs and outputs by the names of the signature, or else by those of the tensors."""
        if self.interpreter.get_signature_list():
            runner = self.interpreter.get_signature_runner()
            return runner.get_input_details(), runner.get_output_details()
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}

    def _resize(self, arrays):
        """Let the inputs have the sizes of these arrays, where the file leaves them open."""
        for name, array in arrays.items():
            shape = [self.batch, *array.shape[1:]]
            self.interpreter.resize_tensor_input(self.inputs[name]["index"], shape)
        with self._only_what_runs():
            self.interpreter.allocate_tensors()

    @contextlib.contextmanager
    def _only_what_runs(self):
        try:
            yield
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"{self.owner}: expected a .tflite file that LiteRT can run; got path={self.path!r}. ({error})"
            ) from error


def _interpreter_class(owner):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            f"{owner}: expected ai-edge-litert to be installed; got {type(error).__name__}: {error}. "
            'pip install "keras-kicks[compression]"'
        ) from error
    return Interpreter


def _spec(detail):
    """Return the shape and dtype that is passed in, with None for an axis whose size the file leaves open."""
    signature = detail["shape_signature"]
    signature = detail["shape"] if len(signature) == 0 else signature
    batch, *rest = (None if size == -1 else int(size) for size in signature)
    dtype = "float32" if _is_quantized(detail) else np.dtype(detail["dtype"]).name
    return keras.InputSpec(shape=(batch or 1, *rest), dtype=dtype)


def _is_quantized(detail):
    return detail["quantization"][0] != 0 and np.issubdtype(detail["dtype"], np.integer)


def _quantized(array, detail):
    if not _is_quantized(detail):
        return array
    scale, zero = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(detail["dtype"])


def _dequantized(array, detail):
    if not _is_quantized(detail):
        return array
    scale, zero = detail["quantization"]
    return ((array.astype(np.float32) - zero) * scale).astype(np.float32)
