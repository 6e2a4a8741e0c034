"""Makes the goldens beside it: models of PyTorch as ONNX files of both its exporters, and as state dicts.

`python make_goldens.py [FOLDER]` with torch, onnx and onnxscript; lstm_native must be importable, it writes
the state dicts. `expected.npz` holds an input of each model and what PyTorch computes of it in float64.
"""

from __future__ import annotations

import copy
import io
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from lstm_native.saving import write_safetensors

IDS, FEATURES = 11, 3


class Classifier(nn.Module):
    """Ids to probabilities, from the last step of two LSTMs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(IDS, 4)
        self.rnn = nn.LSTM(4, 5, 2, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return torch.softmax(self.head(self.rnn(self.embed(x))[0][:, -1]), -1)


class Tagger(nn.Module):
    """Every step of an LSTM in both directions to numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Any) -> Any:
        return torch.tanh(self.head(self.rnn(x)[0]))


class Gated(nn.Module):
    """The last states of a GRU in both directions, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Any) -> Any:
        h = self.rnn(x)[1]
        return torch.sigmoid(self.head(torch.cat((h[-2], h[-1]), 1)))


class Plain(nn.Module):
    """A plain RNN with rectified units, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, 4, nonlinearity="relu")
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(x.transpose(0, 1))[0][-1])


class Sum(nn.Module):
    """An LSTM without biases, and what its steps say on average."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 4, bias=False, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.norm(self.rnn(x)[0])).mean(1))


class Residual(nn.Module):
    """An LSTM with a way past it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, FEATURES, batch_first=True)
        self.norm = nn.LayerNorm(FEATURES)
        self.head = nn.Linear(FEATURES, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(x + self.rnn(x)[0]))


class Attended(nn.Module):
    """The last state of a GRU, and the steps that it attends to."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, 4, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Any) -> Any:
        steps, h = self.rnn(x)
        weights = torch.softmax(torch.bmm(steps, h[-1].unsqueeze(2)).squeeze(2), 1)
        context = torch.bmm(weights.unsqueeze(1), steps).squeeze(1)
        return self.head(torch.cat((context, h[-1]), 1))


class Stacked(nn.Module):
    """A model without activations of its own, as a state dict describes it."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(IDS, FEATURES)
        self.rnn = getattr(nn, kind)(FEATURES, 4, batch_first=True, **options)
        self.head = nn.Linear((options.get("proj_size") or 4) * (1 + options.get("bidirectional", False)), 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(self.embed(x))[0])


GRAPHS: dict[str, Callable[[], nn.Module]] = {
    "classifier": Classifier,
    "tagger": Tagger,
    "gated": Gated,
    "plain": Plain,
    "sum": Sum,
    "residual": Residual,
    "attended": Attended,
}
STATE_DICTS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Stacked("LSTM", num_layers=2),
    "lstm_both": lambda: Stacked("LSTM", bidirectional=True),
    "lstm_projected": lambda: Stacked("LSTM", proj_size=3),
    "gru": lambda: Stacked("GRU", num_layers=2, bidirectional=True),
    "rnn": lambda: Stacked("RNN", bias=False),
}


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """The model with weights of its own; wider than PyTorch's, which are small enough to hide mistakes."""
    torch.manual_seed(3)
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.8, 0.8)
    return module


def example(module: nn.Module) -> Any:
    """An input: 3 rows of 6 steps."""
    random = torch.Generator().manual_seed(5)
    if hasattr(module, "embed"):
        return torch.randint(0, IDS, (3, 6), generator=random)
    return torch.randn((3, 6, FEATURES), generator=random)


def outputs(module: nn.Module, x: Any) -> Any:
    """What PyTorch computes in float64."""
    with torch.no_grad():
        return copy.deepcopy(module).double()(x.double() if x.is_floating_point() else x).numpy()


def exported(module: nn.Module, dynamo: bool) -> bytes:
    """The model as ONNX, with any batch size and number of steps.

    Without the places in source code that the exporter notes down: they are most of a small file.
    """
    x = example(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        if dynamo:
            logging.disable(logging.WARNING)
            sizes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time")},)
            program = torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=sizes, verbose=False)
            logging.disable(logging.NOTSET)
            assert program is not None
            proto = program.model_proto
        else:
            content = io.BytesIO()
            torch.onnx.export(
                module,
                (x,),
                content,
                dynamo=False,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "batch", 1: "time"}, "y": {0: "batch"}},
            )
            proto = onnx.load_model_from_string(content.getvalue())
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return bytes(proto.SerializeToString())


def graphs() -> dict[str, tuple[bytes, Any, Any]]:
    """Content, input and expected output of each ONNX file."""
    found = {}
    for name, make in GRAPHS.items():
        module = made(make)
        x = example(module)
        for exporter in ("script", "dynamo"):
            content = exported(module, exporter == "dynamo")
            found[f"{name}_{exporter}.onnx"] = content, x.numpy(), outputs(module, x)
    return found


def main(folder: Path) -> None:
    """Writes all files."""
    expected = {}
    for name, (content, x, y) in graphs().items():
        (folder / name).write_bytes(content)
        expected |= {f"{name}/x": x, f"{name}/y": y}
    for name, make in STATE_DICTS.items():
        module = made(make)
        x = example(module)
        file = f"{name}.safetensors"
        weights = {key: value.numpy() for key, value in module.state_dict().items()}
        write_safetensors(folder / file, weights, {"format": "pt"})
        expected |= {f"{file}/x": x.numpy(), f"{file}/y": outputs(module, x)}
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
