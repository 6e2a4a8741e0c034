"""PyTorch, eager, as its documentation recommends it: inference mode, logits loss, fused Adam."""

from __future__ import annotations

import math

import numpy as np
import torch
from cases import EPSILON, LEARNING_RATE, VOCABULARY, Case
from torch import nn

from peers.base import Peer, Timed


class Torch(Peer):
    packages = ("torch", "numpy")

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def inference(self, case: Case) -> dict[str, Timed]:
        def form(batch_first: bool) -> Timed:
            lstm = _lstm(case, batch_first)
            x = torch.from_numpy(case.data())
            x = x if batch_first else x.transpose(0, 1).contiguous()

            def call() -> torch.Tensor:
                with torch.inference_mode():
                    return lstm(x)[0]

            return Timed(call, lambda y: (y if batch_first else y.transpose(0, 1)).numpy())

        return {"batch first": form(True), "time first": form(False)}

    def streaming(self, case: Case) -> dict[str, Timed]:
        lstm = _lstm(case, batch_first=True)
        x, x_t = case.data(), case.data()[:, 0]
        cell = nn.LSTMCell(case.inputs, case.units)
        with torch.no_grad():
            for name, parameter in cell.named_parameters():
                parameter.copy_(getattr(lstm, f"{name}_l0"))
        state = (torch.zeros(1, case.batch, case.units),) * 2
        cell_state = (torch.zeros(case.batch, case.units),) * 2

        def layer_call() -> torch.Tensor:
            nonlocal state
            with torch.inference_mode():
                y, state = lstm(torch.from_numpy(x), state)
            return y[0].numpy()

        def cell_call() -> torch.Tensor:
            nonlocal cell_state
            with torch.inference_mode():
                cell_state = cell(torch.from_numpy(x_t), cell_state)
            return cell_state[0].numpy()

        return {
            "LSTM": Timed(layer_call, np.asarray),
            "LSTMCell": Timed(cell_call, np.asarray),
        }

    def training(self, case: Case) -> dict[str, Timed]:
        model = _Classifier(case)
        ids, labels = torch.from_numpy(case.data()).long(), torch.from_numpy(case.labels())
        # The second LSTM bias has no counterpart in Keras; trained too, it would double the bias's steps.
        for name, parameter in model.lstm.named_parameters():
            parameter.requires_grad_("bias_hh" not in name)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, fused=True)
        loss_of = nn.BCEWithLogitsLoss()
        steps = 0

        def call() -> float:
            nonlocal steps
            # Keras adds its epsilon before the bias correction, PyTorch after it.
            steps += 1
            optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - 0.999**steps)
            optimizer.zero_grad()
            loss = loss_of(model(ids), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return {"fused Adam": Timed(call, np.asarray)}

    def model(self, case: Case) -> dict[str, Timed]:
        model = _Classifier(case).eval()
        ids = torch.from_numpy(case.data()).long()

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return torch.sigmoid(model(ids))

        return {"eager": Timed(call, lambda y: y.numpy())}


class _Classifier(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, case.inputs)
        self.lstm = _lstm(case, batch_first=True)
        self.dense = nn.Linear(case.units, 1)
        kernel, bias = map(torch.from_numpy, case.dense_weights())
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(case.table()))
            self.dense.weight.copy_(kernel.T)
            self.dense.bias.copy_(bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        output, _ = self.lstm(self.embedding(ids))
        return self.dense(output[:, -1])


def _lstm(case: Case, batch_first: bool) -> nn.LSTM:
    lstm = nn.LSTM(case.inputs, case.units, num_layers=case.layers, batch_first=batch_first)
    with torch.no_grad():
        for number, weights in enumerate(case.lstm_weights()):
            kernel, recurrent_kernel, bias = map(torch.from_numpy, weights)
            # Gates i f g o, in rows: the same order.
            getattr(lstm, f"weight_ih_l{number}").copy_(kernel.T)
            getattr(lstm, f"weight_hh_l{number}").copy_(recurrent_kernel.T)
            getattr(lstm, f"bias_ih_l{number}").copy_(bias)
            getattr(lstm, f"bias_hh_l{number}").zero_()
    return lstm
