"""Models."""

from keras_kicks.models.approximators import linear_interpolator as linear_interpolator
from keras_kicks.models.approximators import step_approximator as step_approximator
from keras_kicks.models.bagging.bagging import Bagging as Bagging
from keras_kicks.models.boosting.boosting import Boosting as Boosting
from keras_kicks.models.boosting.decision_stump import DecisionStump as DecisionStump
from keras_kicks.models.distiller import Distiller as Distiller
from keras_kicks.models.monte_carlo_predict import MonteCarloPrediction as MonteCarloPrediction
from keras_kicks.models.monte_carlo_predict import monte_carlo_predict as monte_carlo_predict
from keras_kicks.models.sawtooth import sawtooth_network as sawtooth_network
from keras_kicks.models.scikit_learn import KerasClassifier as KerasClassifier
from keras_kicks.models.scikit_learn import KerasRegressor as KerasRegressor
from keras_kicks.models.sharpness_aware import SharpnessAware as SharpnessAware
from keras_kicks.models.tied_model import TiedModel as TiedModel
from keras_kicks.models.truncated_bptt import TruncatedBPTT as TruncatedBPTT
from keras_kicks.models.update_batch_normalization import update_batch_normalization as update_batch_normalization
