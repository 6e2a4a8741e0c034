"""Film reviews of IMDB as word numbers, with 1 for praise and 0 for blame (Maas et al., 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.datasets import words
from lstm_native.datasets.words import Array


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    **kwargs: Any,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """25,000 reviews to train with and as many to test with; downloaded on first use (17 MB).

    Words are numbered by frequency: 4 is the most frequent one, with `index_from=3`.

    Args:
        path: name of the file in the folder of `utils.get_file`, or an absolute path.
        num_words: numbers from this one on become `oov_char`; None for all.
        skip_top: numbers below this one become `oov_char`.
        maxlen: reviews with as many numbers or more are left out; None for all.
        seed: of the order.
        start_char: stands in front of every review; None for nothing.
        oov_char: stands for words that are left out; None leaves them out altogether.
        index_from: number of the most frequent word, less one.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays of lists, and of labels.
    """
    if kwargs:
        raise TypeError(f"load_data: unknown argument {next(iter(kwargs))!r}")
    digest = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
    arrays = words.arrays(path, "imdb.npz", digest)
    generator = words.generator(seed)
    parts = []
    for part in ("train", "test"):
        texts, labels = words.shuffled(arrays[f"x_{part}"], arrays[f"y_{part}"], generator)
        parts.append(words.short_ones(words.numbered(texts, start_char, index_from), labels, maxlen))
    (train, y_train), (test, y_test) = parts
    both = words.limited(train + test, num_words, skip_top, oov_char)
    x_train, x_test = words.objects(both[: len(train)]), words.objects(both[len(train) :])
    return (x_train, np.asarray(y_train)), (x_test, np.asarray(y_test))


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """The number of every word, without `index_from`.

    Args:
        path: name of the file in the folder of `utils.get_file`, or an absolute path.
    """
    return words.word_index(path, "imdb_word_index.json", "bfafd718b763782e994055a2d397834f")
