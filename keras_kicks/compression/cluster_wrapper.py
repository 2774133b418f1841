"""A layer that computes with clustered kernels."""

import inspect

import keras
from keras import ops

from keras_kicks.compression.clustered_kernel import ClusteredKernel
from keras_kicks.compression.prunable import prunable_kernels
from keras_kicks.compression.rebuild import take_variables
from keras_kicks.ops.substitution import substituted


@keras.saving.register_keras_serializable(package="keras_kicks")
class ClusterWeights(keras.layers.Wrapper):
    """Lets a layer compute with clustered kernels, in training and inference; `cluster_weights` makes it.

    The layer's own kernels are trained as well, and decide which centroid each weight belongs to. It is called as the
    layer is.

    Args:
        layer: A built layer.
        kernels: Which of its kernels, as indices into `clusterable_kernels(layer)`.
        clustering: Arguments of `ClusteredKernel` for each of them.
        **kwargs: Base layer arguments; the dtype policy and what is trainable are the layer's.
    """

    def __init__(self, layer, kernels, clustering, **kwargs):
        # Keras reads the signature of `call` when the base class begins: it passes masks and `training` by it.
        self._takes = inspect.signature(layer.call)
        kwargs.setdefault("dtype", layer.dtype_policy)
        kwargs.setdefault("trainable", layer.trainable)
        super().__init__(layer, **kwargs)
        # Kernels are clustered in float32; the layer itself casts them, and its inputs.
        self.autocast = False
        self.supports_masking = layer.supports_masking
        self.kernels = [int(index) for index in kernels]
        self.clustering = dict(clustering)
        self.parts = []
        with keras.name_scope(self.name):
            for kernel in self._kernels(layer):
                per_channel = self.clustering["cluster_per_channel"] and isinstance(kernel.layer, keras.layers.Conv2D)
                arguments = {**self.clustering, "cluster_per_channel": per_channel}
                variable = kernel.variable
                trained = layer.trainable and variable.trainable
                part = ClusteredKernel(**arguments, name=f"clustered_{variable.name}", trainable=trained)
                part.build(tuple(variable.shape))
                self.parts.append(part)
        self.built = True

    @property
    def call(self):
        """A function that takes what the layer takes, and calls it with clustered kernels."""

        def call(*args, **kwargs):
            clustered = self.clustered()
            replacements = [(v, clustered[id(v)]) for v in self.layer.variables if id(v) in clustered]
            with substituted(self.layer, replacements, self.add_loss):
                return self.layer(*args, **kwargs)

        call.__signature__ = self._takes
        return call

    def clustered(self):
        """Return the clustered values of the kernels, by the id of the variable."""
        return {id(v): part(ops.convert_to_tensor(v.value)) for part, v in self._pairs()}

    def take(self, layer):
        """Take over the state of a layer like the one inside, and find the centroids of its kernels; or of a copy."""
        if isinstance(layer, ClusterWeights):
            take_variables([self], layer)
            return
        take_variables([self.layer], layer)
        for part, variable in self._pairs():
            part.begin(ops.convert_to_tensor(variable.value))

    def give(self, layer):
        """Set the state of a layer like the one inside, with clustered kernels."""
        take_variables([layer], self.layer)
        for kernel, values in zip(self._kernels(layer), self.clustered().values(), strict=True):
            kernel.variable.assign(values)

    def _pairs(self):
        return [(part, k.variable) for part, k in zip(self.parts, self._kernels(self.layer), strict=True)]

    def _kernels(self, layer):
        found = clusterable_kernels(layer, type(self).__name__)
        return [found[index] for index in self.kernels]

    def compute_output_spec(self, *args, **kwargs):
        """Return the outputs of the layer, symbolically."""
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        """Return the output shape of the layer."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        """Return the mask of the layer."""
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "kernels": self.kernels, "clustering": self.clustering}


def clusterable_kernels(model, owner, layers=None):
    """Return the kernels of a model or layer that can be clustered, in an order that does not change."""
    return prunable_kernels(model, owner, layers, task="cluster")
