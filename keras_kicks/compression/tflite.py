"""Keras 3 models as .tflite files."""

import re
import tempfile
import warnings

import keras

from keras_kicks._errors import expect, expect_choice
from keras_kicks.compression.as_float32 import as_float32
from keras_kicks.compression.cluster import is_clustered, strip_clustering
from keras_kicks.compression.compressed import Compressed, weights_size
from keras_kicks.compression.keras_layers import all_layers
from keras_kicks.compression.prune import expect_model
from keras_kicks.compression.samples import first_of, representative_batches
from keras_kicks.compression.served import signature, write_saved_model
from keras_kicks.compression.whole_file import expect_target, whole_file

# Conversions of the same model differ: in 14 of 120, TensorFlow 2.21 left the SPLIT between unrolled gates in float32.
REPEATS = 10
MODES = ("float32", "float16", "dynamic", "int8")


def to_tflite(model, path, mode="float32", representative_data=None, int8_io=False):
    """Write a model as a .tflite file, for LiteRT (TensorFlow Lite) on phones and small machines.

    The file takes one sample at a time, or the batch that the `Input` of a functional model has: with a fixed batch
    nothing is computed about shapes. Its inputs are named after the keys of a dict, the `Input`s or the call arguments,
    its outputs after the keys of a dict, or `output_0`, `output_1` and so on; it does not keep their order. It holds
    operations of LiteRT alone, and computes in float32 what a mixed policy computes in 16 bits. It is written beside
    its name and renamed, so that a conversion that fails leaves what was there.

    Args:
        model: A built Sequential, functional or subclassed model.
        path: File to write or replace, that ends with .tflite.
        mode: "float32"; "float16": weights of 16 bits, computed as float32; "dynamic": weights of 8 bits, activations
            quantized as they come; "int8": weights, activations and what is computed of 8 bits, but for operations
            that LiteRT has in float32 alone, as NEG and SQUARE in the statistics of LayerNormalization.
        representative_data: What the ranges of activations are measured with for "int8", a few hundred samples as the
            model will see: inputs as for `model.predict` (arrays, or a list or dict of them), or an iterable of batches
            such as a `tf.data.Dataset`; a tuple is (x, y), as for `fit`. Not needed by a model from `quantize_model`,
            which knows its ranges.
        int8_io: Whether inputs and outputs are int8 too, in "int8"; else they are float32 as the model's.

    Returns:
        A `Compressed`: size, gzipped size, and the size of the weights in memory.

    Raises:
        TypeError: `model` is no model of Keras 3, `path` no path.
        ValueError: expected a built model of float32 weights, not quantized by Keras, that runs on the inputs it was
            built with, of operations that LiteRT has; a path that ends with .tflite, in a directory that exists; mode
            "float32", "float16", "dynamic" or "int8"; for "int8" representative data with a sample in it, finite, of
            the shapes of the inputs, and no loop; int8_io and representative_data with "int8" alone.

    Source:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        2017, arXiv:1712.05877.

    Example:
        >>> import os, tempfile
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256), keras.layers.Dense(10)])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.tflite")
        >>> sizes = [to_tflite(model, path, mode).size for mode in ("float32", "float16", "dynamic")]
        >>> [round(size / sizes[0], 1) for size in sizes]
        [1.0, 0.5, 0.3]
    """
    owner = "to_tflite"
    expect_model(owner, model)
    whole = isinstance(model, keras.Model)
    expect(whole, owner, "a model", "Put the layer into keras.Sequential.", TypeError, model=type(model).__name__)
    for layer in all_layers(model):
        remedy = "Export the model from before model.quantize."
        quantized = layer.quantization_mode
        expect(quantized is None, owner, "layers of float weights", remedy, layer=layer.name, quantized=quantized)
    narrow = sorted({weight.dtype for weight in model.weights} & {"float16", "bfloat16"})
    remedy = "Build it with the float32 policy, or a mixed one, and use set_weights."
    expect(not narrow, owner, "a model of float32 weights", remedy, weights=narrow)
    path = expect_target(owner, path, ".tflite")
    expect_choice(owner, MODES, mode=mode)
    expect(mode == "int8" or not int8_io, owner, 'int8_io with mode="int8" alone', mode=mode, int8_io=int8_io)
    used = mode == "int8" or representative_data is None
    expect(used, owner, 'representative_data with mode="int8" alone', mode=mode)
    with as_float32(model), tempfile.TemporaryDirectory() as folder:
        takes = signature(owner, model)
        batches = None
        if representative_data is not None:
            # Before the conversion, for a mistake in the data to be told at once.
            batches = first_of(representative_batches(owner, representative_data, takes))
        # A file holds what centroids come to, not how.
        plain = strip_clustering(model) if is_clustered(model) else model
        operations = write_saved_model(owner, plain, takes, folder)
        if mode == "int8":
            _expect_ranges(owner, batches, operations)
        again = REPEATS if mode == "int8" and operations & {"Split", "SplitV"} else 0
        if again and batches is not None:
            batches = list(batches)  # They may come but once.
        content = _convert(owner, folder, mode, batches, int8_io)
        while again and _splits_floats(content):
            again, content = again - 1, _convert(owner, folder, mode, batches, int8_io)
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write(content)
    return Compressed.of_file(path, mode, weights_size(model))


def _expect_ranges(owner, batches, operations):
    """Raise unless the ranges of all activations are known or can be measured."""
    quantized = any(operation.startswith("FakeQuant") for operation in operations)
    remedy = "Pass some hundred samples as the model will see them."
    rule = 'representative_data for mode="int8"'
    expect(batches is not None or quantized, owner, rule, remedy, representative_data=None)
    # LiteRT has no int8 loops, and its measurement of ranges crashes the process in them.
    loops = sorted(operations & {"While", "StatelessWhile"})
    remedy = 'Give recurrent layers unroll=True, or use mode="dynamic".'
    expect(not loops or batches is None, owner, 'no loop for mode="int8", which LiteRT lacks', remedy, operations=loops)


def _convert(owner, folder, mode, batches, int8_io):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if batches is not None:
        converter.representative_dataset = lambda: batches
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if int8_io:
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # The converter calibrates with an interpreter of TensorFlow that is to move to ai-edge-litert.
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        try:
            return converter.convert()
        except Exception as error:
            lacking = re.findall(r"(?:TF Select|Custom) ops: (.*)", str(error))
            if not lacking:
                raise
            raise ValueError(
                f"{owner}: expected a model of operations that LiteRT has; got operations={', '.join(lacking)}. "
                "Replace the layers that need them."
            ) from error


def _splits_floats(content):
    """Whether a file has a SPLIT of float32."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
            kind = graph.Tensors(operator.Outputs(0)).Type()
            if code == schema.BuiltinOperator.SPLIT and kind == schema.TensorType.FLOAT32:
                return True
    return False
