"""PyTorch, eager, as its documentation recommends it: inference mode, logits loss, fused Adam."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from cases import EPSILON, GATES, LEARNING_RATE, VOCABULARY, Array, Case
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_sequence

from peers.base import NotOffered, Peer, Timed

LAYERS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTM, nn.LSTMCell),
    "gru": (nn.GRU, nn.GRUCell),
    "simple_rnn": (nn.RNN, nn.RNNCell),
}


class Torch(Peer):
    packages = ("torch", "numpy")
    families = tuple(GATES)

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def inference(self, case: Case) -> dict[str, Timed]:
        def form(batch_first: bool) -> Timed:
            layer = _quantized(case, _layer(case, batch_first))
            x = torch.from_numpy(case.data())
            x = x if batch_first else x.transpose(0, 1).contiguous()

            def call() -> torch.Tensor:
                with torch.inference_mode():
                    return layer(x)[0]

            return Timed(call, lambda y: (y if batch_first else y.transpose(0, 1)).numpy())

        return {"batch first": form(True), "time first": form(False)}

    def streaming(self, case: Case) -> dict[str, Timed]:
        plain = _layer(case, batch_first=True)
        layer = _quantized(case, plain)
        x, x_t = case.data(), case.data()[:, 0]
        cell = LAYERS[case.family][1](case.inputs, case.units)
        with torch.no_grad():
            for name, parameter in cell.named_parameters():
                parameter.copy_(getattr(plain, f"{name}_l0"))
        has_c = case.family == "lstm"
        h = torch.zeros(case.batch, case.units)
        state: Any = (h[None], h[None]) if has_c else h[None]
        cell_state: Any = (h, h) if has_c else h

        def layer_call() -> Array:
            nonlocal state
            with torch.inference_mode():
                y, state = layer(torch.from_numpy(x), state)
            return y[0].numpy()

        def cell_call() -> Array:
            nonlocal cell_state
            with torch.inference_mode():
                cell_state = cell(torch.from_numpy(x_t), cell_state)
            return (cell_state[0] if has_c else cell_state).numpy()

        forms = {"layer": Timed(layer_call, np.asarray)}
        return forms if case.quantized else forms | {"cell": Timed(cell_call, np.asarray)}

    def training(self, case: Case) -> dict[str, Timed]:
        model = _Classifier(case)
        ids, labels = torch.from_numpy(case.data()).long(), torch.from_numpy(case.labels())
        training = _Training(model)
        return {"fused Adam": Timed(lambda: training.step(ids, labels), np.asarray)}

    def model(self, case: Case) -> dict[str, Timed]:
        model = _Classifier(case).eval()
        ids = torch.from_numpy(case.data()).long()

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return torch.sigmoid(model(ids))

        return {"eager": Timed(call, lambda y: y.numpy())}

    def predict(self, case: Case) -> dict[str, Timed]:
        sequences = _tensors(case)

        def form(batches: list[Array], packed: bool) -> Timed:
            model = _OverSequences(case, packed).eval()

            def call() -> Array:
                probabilities = np.empty((case.sequences, 1), np.float32)
                with torch.inference_mode():
                    for rows in batches:
                        logits = model([sequences[row] for row in rows])
                        probabilities[rows] = torch.sigmoid(logits).numpy()
                return probabilities

            return Timed(call, np.asarray)

        similar, as_they_come = (
            case.rows_of_batches(),
            list(np.arange(case.sequences).reshape(-1, case.batch)),
        )
        return {
            "packed": form(similar, packed=True),
            "packed, in no order": form(as_they_come, packed=True),
            "padded batches": form(similar, packed=False),
        }

    def fit(self, case: Case) -> dict[str, Timed]:
        sequences, labels = _tensors(case), torch.from_numpy(case.labels())
        batches = case.rows_of_batches()

        def form(packed: bool) -> Timed:
            training = _Training(_OverSequences(case, packed))

            def call() -> float:
                losses = [training.step([sequences[row] for row in rows], labels[rows]) for rows in batches]
                return sum(losses) / len(losses)

            return Timed(call, np.asarray)

        return {"packed": form(packed=True), "padded batches": form(packed=False)}


def _tensors(case: Case) -> list[torch.Tensor]:
    return [torch.from_numpy(sequence) for sequence in case.ragged_data()]


class _Training:
    """Forward, loss, backward and Adam, as Keras does them."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, fused=True)
        self.loss = nn.BCEWithLogitsLoss()
        self.steps = 0

    def step(self, x: Any, labels: torch.Tensor) -> float:
        # Keras adds its epsilon before the bias correction, PyTorch after it.
        self.steps += 1
        self.optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - 0.999**self.steps)
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()


class _Classifier(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, case.inputs)
        self.recurrent = _layer(case, batch_first=True)
        self.dense = _dense(case)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(case.table()))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        output, _ = self.recurrent(self.embedding(ids))
        return self.dense(output[:, -1])


class _OverSequences(nn.Module):
    """Sequences of different lengths, packed, or padded to the longest and read at their last steps."""

    def __init__(self, case: Case, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.recurrent = _layer(case, batch_first=True)
        self.dense = _dense(case)

    def forward(self, sequences: list[torch.Tensor]) -> torch.Tensor:
        if not self.packed:
            output, _ = self.recurrent(pad_sequence(sequences, batch_first=True))
            last = torch.tensor([len(sequence) - 1 for sequence in sequences])
            return self.dense(output[torch.arange(len(sequences)), last])
        _, state = self.recurrent(pack_sequence(sequences, enforce_sorted=False))
        h = state[0] if isinstance(state, tuple) else state
        return self.dense(h[-1])


def _dense(case: Case) -> nn.Linear:
    dense = nn.Linear(case.units, 1)
    kernel, bias = map(torch.from_numpy, case.dense_weights())
    with torch.no_grad():
        dense.weight.copy_(kernel.T)
        dense.bias.copy_(bias)
    return dense


def _layer(case: Case, batch_first: bool) -> Any:
    layer = LAYERS[case.family][0](case.inputs, case.units, num_layers=case.layers, batch_first=batch_first)
    with torch.no_grad():
        for number, (kernel, recurrent_kernel, bias) in enumerate(case.layer_weights()):
            # The second bias of all but a GRU has no counterpart in Keras; trained too, it would double the
            # bias's steps.
            biases = bias if case.family == "gru" else (bias, np.zeros_like(bias))
            getattr(layer, f"bias_hh_l{number}").requires_grad_(case.family == "gru")
            values = {"weight_ih": kernel.T, "weight_hh": recurrent_kernel.T}
            values |= dict(zip(("bias_ih", "bias_hh"), biases, strict=True))
            for name, value in values.items():
                parameter = getattr(layer, f"{name}_l{number}")
                parameter.copy_(torch.from_numpy(_gates(case.family, value)))
    return layer


def _quantized(case: Case, layer: Any) -> Any:
    """The layer with weights of 8 bits and inputs rounded at every call, where that is asked for."""
    if not case.quantized:
        return layer
    if case.quantized != "int8":
        raise NotOffered(f"{case.quantized} is not built for it here")
    held = nn.ModuleDict({"layer": layer.eval()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.ao.quantization.quantize_dynamic(held, {type(layer)}, dtype=torch.qint8)["layer"]


def _gates(family: str, rows: Array) -> Array:
    """Rows of the gates in the order of PyTorch: i f g o as in Keras, but r z n for a GRU."""
    if family != "gru":
        return np.ascontiguousarray(rows)
    z, r, h = np.split(rows, 3)
    return np.concatenate([r, z, h])
