"""Members, and what they predict together, as models of Keras alone."""

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.models.bagging.member_models import with_values


def plain_member(bagging, member, **renamed):
    """Return a member as a model of its own, with the values it has now."""
    model = bagging.member_weights.model(member)
    config = keras.saving.serialize_keras_object(model)
    config["config"] = {**config["config"], **renamed}
    return with_values(config, type(model), *bagging.member_weights.values(member), bagging._hidden.input_shape)


def plain_ensemble(bagging):
    """Return a functional model of the combined predictions."""
    models = [plain_member(bagging, member, name=f"member_{member}") for member in range(bagging.n)]
    known = hasattr(models[0], "inputs") and models[0].inputs
    owner = type(bagging).__name__
    expect(known, owner, "members with known inputs", "Give them a keras.Input.", inputs=None)
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype, name=x.name) for x in models[0].inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    each = [model(inputs) for model in models]
    columns = [keras.tree.flatten(outputs) for outputs in each]
    outputs = [bagging._combined(ops.stack(list(row))) for row in zip(*columns, strict=True)]
    return keras.Model(inputs, keras.tree.pack_sequence_as(each[0], outputs), name=bagging.name)
