"""What the data sets of texts share: lists of word numbers, chosen and shuffled as Keras does it. Floor 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.datasets.objects import load_npz
from lstm_native.utils.files import get_file

Array = npt.NDArray[Any]
_FOLDER = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def arrays(path: str, name: str, digest: str) -> dict[str, Array]:
    """The arrays of a file of Keras, or of the one at an absolute path."""
    own = Path(path).is_absolute()
    return load_npz(Path(path if own else get_file(path, _FOLDER + name, file_hash=digest)))


def word_index(path: str, name: str, digest: str) -> dict[str, int]:
    """Numbers of words from a file of Keras, or from the one at an absolute path."""
    own = Path(path).is_absolute()
    file = Path(path if own else get_file(path, _FOLDER + name, file_hash=digest))
    found: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    return found


def shuffled(texts: Array, labels: Array, generator: Any) -> tuple[Array, Array]:
    """Texts and labels in random order."""
    order = np.arange(len(texts))
    generator.shuffle(order)
    return texts[order], labels[order]


def generator(seed: int) -> Any:
    """The generator that Keras draws with."""
    return np.random.RandomState(seed)


def numbered(texts: Array, start_char: int | None, index_from: int) -> list[list[int]]:
    """Texts with the first character in front and room for special numbers."""
    if start_char is not None:
        return [[start_char, *(word + index_from for word in text)] for text in texts]
    return [[word + index_from for word in text] for text in texts]


def short_ones(texts: list[list[int]], labels: Array, maxlen: int | None) -> tuple[list[list[int]], Array]:
    """Texts of less than `maxlen` numbers.

    Raises:
        ValueError: there are none.
    """
    if not maxlen:
        return texts, labels
    kept = [i for i, text in enumerate(texts) if len(text) < maxlen]
    if not kept:
        raise ValueError(f"load_data: maxlen is {maxlen}, and every text has as many numbers or more")
    return [texts[i] for i in kept], labels[kept]


def limited(
    texts: list[list[int]], num_words: int | None, skip_top: int, oov_char: int | None
) -> list[list[int]]:
    """Texts with numbers from `skip_top` to `num_words` alone, others as `oov_char` or left out."""
    end = num_words or max(max(text) for text in texts)
    if oov_char is None:
        return [[word for word in text if skip_top <= word < end] for text in texts]
    return [[word if skip_top <= word < end else oov_char for word in text] for text in texts]


def objects(texts: list[list[int]]) -> Array:
    """Lists as an array of objects."""
    result = np.empty(len(texts), object)
    result[:] = texts
    return result
