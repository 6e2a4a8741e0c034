"""Writes the .onnx files that PyTorch's exporters made: `python make_torch.py FOLDER`.

It takes torch, onnx and onnxscript; the files here are those of torch 2.13.0. Names say which exporter wrote
them: "script" is the older one (dynamo=False).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim


class Texts(nn.Module):
    """Ids to one number: embedding, two LSTM layers, the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)
        self.lstm = nn.LSTM(4, 5, 2, batch_first=True, dropout=0.3)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Any) -> Any:
        _, (h, _) = self.lstm(self.table(x))
        return torch.sigmoid(self.head(h[-1]))


class Tagger(nn.Module):
    """A label for each step: a bidirectional GRU, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Any) -> Any:
        return torch.log_softmax(self.head(torch.relu(self.gru(x)[0])), -1)


class LastStep(nn.Module):
    """The last step of a bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, bidirectional=True, batch_first=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


class Both(nn.Module):
    """The last states of both directions side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 5, bidirectional=True, batch_first=True, nonlinearity="relu")
        self.head = nn.Linear(10, 3)

    def forward(self, x: Any) -> Any:
        _, h = self.rnn(x)
        return self.head(torch.cat((h[-2], h[-1]), 1))


CASES: dict[str, tuple[Any, Any, dict[int, str]]] = {
    "texts": (Texts, torch.zeros(3, 6, dtype=torch.int64), {0: "batch", 1: "time"}),
    "tagger": (Tagger, torch.randn(6, 3, 4), {0: "time", 1: "batch"}),
    "last": (LastStep, torch.randn(3, 6, 4), {0: "batch", 1: "time"}),
    "both": (Both, torch.randn(3, 6, 4), {0: "batch", 1: "time"}),
    "lstm": (lambda: nn.LSTM(4, 5, 2, bidirectional=True), torch.randn(6, 3, 4), {0: "time", 1: "batch"}),
    "fixed": (lambda: nn.GRU(4, 5, batch_first=True), torch.randn(1, 6, 4), {}),
}


def main(folder: Path) -> None:
    for name, (make, x, axes) in CASES.items():
        torch.manual_seed(0)
        module = make().eval()
        torch.onnx.export(
            module, (x,), str(folder / f"torch_script_{name}.onnx"), dynamo=False, input_names=["x"],
            dynamic_axes={"x": axes} if axes else None,
        )  # fmt: skip
        shapes = ({axis: Dim(size, min=2, max=1000) for axis, size in axes.items()},) if axes else None
        torch.onnx.export(
            module,
            (x,),
            str(folder / f"torch_{name}.onnx"),
            dynamo=True,
            dynamic_shapes=shapes,
            external_data=False,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
