"""PyTorch, eager, as its documentation recommends it: inference mode, logits loss, fused Adam."""

from __future__ import annotations

import math

import torch
from torch import nn

from peers.base import EPSILON, LEARNING_RATE, Array, Case, Peer


class _Model(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(case.vocabulary, case.embedding)
        self.lstm = nn.LSTM(case.embedding, case.units, batch_first=True)
        self.dense = nn.Linear(case.units, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        output, _ = self.lstm(self.embedding(ids))
        return self.dense(output[:, -1])


class Torch(Peer):
    packages = ("torch", "numpy")

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = _Model(case)
        table, kernel, recurrent_kernel, bias, dense_kernel, dense_bias = map(
            torch.from_numpy, case.weights()
        )
        lstm = self.model.lstm
        with torch.no_grad():
            self.model.embedding.weight.copy_(table)
            lstm.weight_ih_l0.copy_(kernel.T)  # gates i f g o, in rows: the same order
            lstm.weight_hh_l0.copy_(recurrent_kernel.T)
            lstm.bias_ih_l0.copy_(bias)
            lstm.bias_hh_l0.zero_()
            self.model.dense.weight.copy_(dense_kernel.T)
            self.model.dense.bias.copy_(dense_bias)
        # The second LSTM bias has no counterpart in Keras; trained too, it would double the bias's steps.
        lstm.bias_hh_l0.requires_grad_(False)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, fused=True)
        self.steps = 0
        self.loss = nn.BCEWithLogitsLoss()

    def prepare(self, ids: Array, labels: Array) -> None:
        self.ids, self.labels = torch.from_numpy(ids).long(), torch.from_numpy(labels)

    def predict(self) -> Array:
        self.model.eval()
        with torch.inference_mode():
            probabilities: Array = torch.sigmoid(self.model(self.ids)).numpy()
        return probabilities

    def train_step(self) -> float:
        # Keras adds its epsilon before the bias correction, PyTorch after it: the same numbers need this one.
        self.steps += 1
        self.optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - 0.999**self.steps)
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.ids), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()
