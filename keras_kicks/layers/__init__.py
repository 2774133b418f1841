"""Layers."""

from keras_kicks.layers.activation.maxout import Maxout as Maxout
from keras_kicks.layers.activation.maxout_dense import MaxoutDense as MaxoutDense
from keras_kicks.layers.activation.rrelu import RReLU as RReLU
from keras_kicks.layers.augmentation.sequence_scaling import SequenceScaling as SequenceScaling
from keras_kicks.layers.augmentation.swap_noise import SwapNoise as SwapNoise
from keras_kicks.layers.augmentation.time_mask import TimeMask as TimeMask
from keras_kicks.layers.augmentation.time_warp import TimeWarp as TimeWarp
from keras_kicks.layers.augmentation.vector_noise import VectorNoise as VectorNoise
from keras_kicks.layers.normalization.group_normalization import GroupNormalization as GroupNormalization
from keras_kicks.layers.recurrent.beam_search_decoder import BeamSearchDecoder as BeamSearchDecoder
from keras_kicks.layers.recurrent.child_sum_tree_lstm import ChildSumTreeLSTM as ChildSumTreeLSTM
from keras_kicks.layers.recurrent.deep_transition_cell import DeepTransitionCell as DeepTransitionCell
from keras_kicks.layers.recurrent.gru import GRU as GRU
from keras_kicks.layers.recurrent.gru_cell import GRUCell as GRUCell
from keras_kicks.layers.recurrent.leaky_cell import LeakyCell as LeakyCell
from keras_kicks.layers.recurrent.lstm import LSTM as LSTM
from keras_kicks.layers.recurrent.lstm_cell import LSTMCell as LSTMCell
from keras_kicks.layers.recurrent.nary_tree_lstm import NaryTreeLSTM as NaryTreeLSTM
from keras_kicks.layers.recurrent.rnn import RNN as RNN
from keras_kicks.layers.recurrent.skip_cell import SkipCell as SkipCell
from keras_kicks.layers.recurrent.skip_cell import dilated_cells as dilated_cells
from keras_kicks.layers.recurrent.teacher_forcing_decoder import TeacherForcingDecoder as TeacherForcingDecoder
from keras_kicks.layers.recurrent.teacher_forcing_regressor import TeacherForcingRegressor as TeacherForcingRegressor
from keras_kicks.layers.recurrent.tree_rnn import TreeRNN as TreeRNN
from keras_kicks.layers.regularization.dropconnect import DropConnect as DropConnect
