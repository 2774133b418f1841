"""Penalties on weights."""

from keras_kicks.regularizers.lasso import ElasticNet as ElasticNet
from keras_kicks.regularizers.lasso import Lasso as Lasso
from keras_kicks.regularizers.lasso import Ridge as Ridge
from keras_kicks.regularizers.lp import Lp as Lp
from keras_kicks.regularizers.parameter_tying import ParameterTying as ParameterTying
