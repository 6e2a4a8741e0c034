"""Layers under their Keras names."""

from __future__ import annotations

from lstm_native.layers.activations import (
    ELU,
    ActivityRegularization,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
)
from lstm_native.layers.attention import AdditiveAttention, Attention
from lstm_native.layers.base import Layer
from lstm_native.layers.batch_normalization import BatchNormalization
from lstm_native.layers.bidirectional import Bidirectional
from lstm_native.layers.cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from lstm_native.layers.convolution import Conv1D, Convolution1D
from lstm_native.layers.dense import Activation, Dense
from lstm_native.layers.dropout import Dropout, SpatialDropout1D
from lstm_native.layers.embedding import Embedding
from lstm_native.layers.functions import Lambda
from lstm_native.layers.gru import GRU
from lstm_native.layers.inputs import Input, InputLayer
from lstm_native.layers.lstm import LSTM
from lstm_native.layers.masking import Masking
from lstm_native.layers.merging import (
    Add,
    Average,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    maximum,
    minimum,
    multiply,
    subtract,
)
from lstm_native.layers.merging_axes import Concatenate, Dot, concatenate, dot
from lstm_native.layers.multi_head import MultiHeadAttention
from lstm_native.layers.noise import GaussianDropout, GaussianNoise
from lstm_native.layers.normalization import LayerNormalization
from lstm_native.layers.padding import Cropping1D, UpSampling1D, ZeroPadding1D
from lstm_native.layers.pooling import (
    GlobalAveragePooling1D,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    GlobalMaxPooling1D,
)
from lstm_native.layers.pooling_local import AveragePooling1D, AvgPool1D, MaxPool1D, MaxPooling1D
from lstm_native.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from lstm_native.layers.rnn import RNN
from lstm_native.layers.scaling import Rescaling
from lstm_native.layers.simple_rnn import SimpleRNN
from lstm_native.layers.standardizing import Normalization
from lstm_native.layers.text import TextVectorization
from lstm_native.layers.time_distributed import TimeDistributed

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "ActivityRegularization",
    "Add",
    "AdditiveAttention",
    "Attention",
    "Average",
    "AveragePooling1D",
    "AvgPool1D",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
    "Convolution1D",
    "Cropping1D",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAvgPool1D",
    "GlobalMaxPool1D",
    "GlobalMaxPooling1D",
    "Input",
    "InputLayer",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxPool1D",
    "MaxPooling1D",
    "Maximum",
    "Minimum",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "SpatialDropout1D",
    "StackedRNNCells",
    "Subtract",
    "TextVectorization",
    "TimeDistributed",
    "UpSampling1D",
    "ZeroPadding1D",
    "add",
    "average",
    "concatenate",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]
