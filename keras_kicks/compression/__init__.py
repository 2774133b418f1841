"""TFMOT's algorithms on Keras 3 models. TFMOT itself is imported by what needs it, not by this package."""

from keras_kicks.compression.bfloat16 import load_bfloat16_weights as load_bfloat16_weights
from keras_kicks.compression.bfloat16 import save_bfloat16_weights as save_bfloat16_weights
from keras_kicks.compression.bfloat16 import to_bfloat16 as to_bfloat16
from keras_kicks.compression.calibrate import calibrate as calibrate
from keras_kicks.compression.cluster import cluster_report as cluster_report
from keras_kicks.compression.cluster import cluster_weights as cluster_weights
from keras_kicks.compression.cluster import strip_clustering as strip_clustering
from keras_kicks.compression.compressed import Compressed as Compressed
from keras_kicks.compression.evaluate import evaluate_tflite as evaluate_tflite
from keras_kicks.compression.evaluate import predict_tflite as predict_tflite
from keras_kicks.compression.iterative_pruning import prune_iteratively as prune_iteratively
from keras_kicks.compression.prune import prune_low_magnitude as prune_low_magnitude
from keras_kicks.compression.prune import strip_pruning as strip_pruning
from keras_kicks.compression.pruning_callback import PruningCallback as PruningCallback
from keras_kicks.compression.quantize import quantize_model as quantize_model
from keras_kicks.compression.quantize_annotate import quantize_annotate_layer as quantize_annotate_layer
from keras_kicks.compression.sparsity_report import sparsity_report as sparsity_report
from keras_kicks.compression.strip_l0 import strip_l0 as strip_l0
from keras_kicks.compression.tflite import to_tflite as to_tflite


def __getattr__(name):
    """Return TFMOT's pruning schedules, which are ours to name but not to write."""
    if name in ("ConstantSparsity", "PolynomialDecay"):
        from keras_kicks.compression._tfmot import schedules

        return schedules()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
