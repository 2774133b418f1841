"""Models."""

from keras_kicks.models.bagging import Bagging as Bagging
from keras_kicks.models.distiller import Distiller as Distiller
from keras_kicks.models.scikit_learn import KerasClassifier as KerasClassifier
from keras_kicks.models.scikit_learn import KerasRegressor as KerasRegressor
from keras_kicks.models.sharpness_aware import SharpnessAware as SharpnessAware
from keras_kicks.models.truncated_bptt import TruncatedBPTT as TruncatedBPTT
from keras_kicks.models.update_batch_normalization import update_batch_normalization as update_batch_normalization
