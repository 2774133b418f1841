"""The models that an ensemble is made of, before and after they are its members."""

import copy
import itertools

import keras

from keras_kicks._errors import expect
from keras_kicks.models.known_shape import build_by_shape
from keras_kicks.models.other_values import expect_no_tables, refresh

# What decides how a model learns, and what `Bagging` has of its own.
_OF_TRAINING = ("fit", "train_step", "compute_loss")


def new_models(owner, build_fn, n):
    """Return n new models.

    Raises:
        TypeError: `build_fn` is no function; what it returns is no Keras model.
        ValueError: expected a new model in each call of build_fn; models that learn as a keras.Model does; no layers
            that were adapted to a vocabulary or to bins.
    """
    expect(callable(build_fn), owner, "a function for build_fn", error=TypeError, build_fn=build_fn)
    models, rule = [], "build_fn to return a Keras model"
    for _ in range(n):
        model = build_fn()
        is_model = isinstance(model, keras.Model)
        expect(is_model, owner, rule, "Pass the function, not a model.", TypeError, returned=type(model).__name__)
        models.append(model)
    own = [f"{type(m).__name__}.{name}" for m in models[:1] for name in _OF_TRAINING if _is_own(m, name)]
    rule = "models that learn as a keras.Model does, since all are trained by one step"
    remedy = "scikit-learn's BaggingClassifier around a KerasClassifier trains others, one after the other."
    expect(not own, owner, rule, remedy, own=own)
    for model in models:
        expect_no_tables(owner, model)
    parts = [id(part) for model in models for part in {id(v): v for v in model.variables}.values()]
    rule, remedy = "a new model in each call of build_fn", "Make the model and its layers within the function."
    distinct = len({id(model) for model in models}) == n and len(set(parts)) == len(parts)
    expect(distinct, owner, rule, remedy, models=[model.name for model in models][:3])
    return models


def _is_own(model, name):
    return name in vars(model) or getattr(type(model), name) is not getattr(keras.Model, name)


def rebuilder(configs):
    """Return a function that makes models out of serialized ones, in turns."""
    turns = itertools.cycle(configs)
    # Of a copy: Keras takes a functional model's configuration apart.
    return lambda: keras.saving.deserialize_keras_object(copy.deepcopy(next(turns)))


def with_values(config, kind, trained, states, input_shape=None):
    """Return a model of a serialized one and its class, with these values of its variables."""
    model = keras.saving.deserialize_keras_object(config, custom_objects={kind.__name__: kind})
    build_by_shape(model, input_shape)
    for variable, value in zip(model.trainable_variables, trained, strict=True):
        variable.assign(value)
    for variable, value in zip(model.non_trainable_variables, states, strict=True):
        variable.assign(value)
    refresh(model)
    return model
