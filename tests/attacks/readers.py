"""The readers of files, with all that may come out of them when the file is damaged or hostile.

`READERS[name](content)` raises nothing where all is well: either the file is refused with one clear line, or
there is a model, which is used. Fuzzing and the tests of its finds call these.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lstm_native.convert import from_keras, from_onnx, from_torch
from lstm_native.later import values_come_later
from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential, load_model, model_from_json
from lstm_native.saving import read_safetensors

# Longer messages are no longer one clear line.
MAX_MESSAGE = 2000
# Numbers that a model without weights in its file may have, so that it is made in little memory.
MAX_WEIGHTS = 1 << 16
# Numbers in an input that a model is tried with.
MAX_INPUT = 10_000
_FOLDER = tempfile.TemporaryDirectory()


def refused_or_made(read: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What `read` gives; None where it refuses with one line.

    Args:
        read: makes something of a file.
        errors: what it may raise, beside ValueError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers, about arguments that are odd but legal
        try:
            return read()
        except (ValueError, *errors) as error:
            message = str(error)
    assert message
    assert "\n" not in message, message
    assert len(message) <= MAX_MESSAGE, message
    return None


def use(model: Any) -> None:
    """Predicts with a model: it works or says what it misses, as damage may have changed what it takes."""
    if model is None or not model.built or re.search(r"\d{5}", model.to_json()):
        return  # what it asks for by a number may take long, and rightly so
    shapes = [tuple(3 if size is None else size for size in value.shape) for value in model.inputs]
    if sum(map(math.prod, shapes)) <= MAX_INPUT:
        inputs = [np.zeros(shape, np.float32) for shape in shapes]
        with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError):
            model.predict(inputs[0] if len(inputs) == 1 else inputs, verbose=0)


def _written(content: bytes, suffix: str) -> Path:
    path = Path(_FOLDER.name) / f"file{suffix}"
    path.write_bytes(content)
    return path


def safetensors(content: bytes) -> None:
    """A file of tensors, as such, as a model and as a state dict of PyTorch."""
    path = _written(content, ".safetensors")
    if refused_or_made(lambda: read_safetensors(path)) is not None:
        use(refused_or_made(lambda: load_model(path)))
        use(refused_or_made(lambda: from_torch(path)))


def keras(content: bytes) -> None:
    """A `.keras` or `.h5` file, as a model and as weights for one."""
    path = _written(content, ".keras" if content.startswith(b"PK") else ".h5")
    model = refused_or_made(lambda: from_keras(path))
    use(model)
    if model is None and path.suffix == ".h5":
        target = Sequential([Input((3,)), Dense(2)])
        refused_or_made(lambda: from_keras(path, model=target))


def onnx(content: bytes) -> None:
    """An ONNX model, converted and run by the backend."""
    import lstm_native.onnx_backend as backend

    use(refused_or_made(lambda: from_onnx(content)))
    refused_or_made(lambda: backend.prepare(content))


def json(content: bytes) -> None:
    """The JSON of a model without weights."""

    def read() -> Any:
        with values_come_later(MAX_WEIGHTS):
            return model_from_json(content.decode("utf-8", "surrogateescape"))

    use(refused_or_made(read, TypeError))


READERS: dict[str, Callable[[bytes], None]] = {
    "safetensors": safetensors,
    "keras": keras,
    "onnx": onnx,
    "json": json,
}
