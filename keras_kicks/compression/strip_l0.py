"""A plain model of one whose layers have L0 gates."""

from keras_kicks._errors import expect
from keras_kicks.compression.keras_layers import all_layers
from keras_kicks.compression.rebuild import copied, rebuilt
from keras_kicks.layers.regularization.l0 import L0


def strip_l0(model):
    """Return a copy of a model in which plain layers stand for those that `keras_kicks.layers.L0` wraps.

    Their weights are those of inference: what gates have closed is exactly 0. The copy computes what the model does in
    inference; it is saved and loaded without this library, has the sizes of `sparsity_report`, and can be pruned,
    quantized or exported further. Layers keep the names that they have in the model; it is not compiled.

    Args:
        model: A built Sequential or functional model with `L0` layers, also in nested models; it is not changed.

    Returns:
        The copy.

    Raises:
        ValueError: expected a Sequential or functional model, that was built; L0 layers in it, none of them within
            another layer.

    Example:
        >>> import keras
        >>> from keras_kicks.layers import L0
        >>> model = keras.Sequential([keras.Input((3,)), L0(keras.layers.Dense(2), drop_rate=0.99, name="gated")])
        >>> from keras_kicks.compression import sparsity_report
        >>> print(sparsity_report(strip_l0(model)))
        weight        shape  weights  zeros  sparsity
        gated/kernel  3x2          6      6    100.0%
        total                      6      6    100.0%
        parameters                 8      8    100.0%
    """
    owner = "strip_l0"

    def replace(part):
        return copied(part.layer, name=part.name) if isinstance(part, L0) else None

    plain = rebuilt(owner, model, replace)
    remedy = "Wrap the layer itself, and that in the other one's place."
    expect(bool(_gated(model)), owner, "a model with L0 layers", model=model.name)
    expect(not _gated(plain), owner, "no L0 layer within another layer", remedy, layers=_gated(plain))
    return plain


def _gated(model):
    return [layer.name for layer in all_layers(model) if isinstance(layer, L0)]
