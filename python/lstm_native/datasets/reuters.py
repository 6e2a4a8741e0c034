"""News of Reuters as word numbers, with one of 46 topics."""

from __future__ import annotations

from lstm_native.datasets import words
from lstm_native.datasets.words import Array


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """11,228 pieces of news; downloaded on first use (2 MB).

    Args:
        test_split: share of them to test with (default 0.2).
        path, num_words, skip_top, maxlen, seed, start_char, oov_char, index_from: as `imdb.load_data`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays of lists, and of topics.
    """
    digest = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
    arrays = words.arrays(path, "reuters.npz", digest)
    texts, labels = words.shuffled(arrays["x"], arrays["y"], words.generator(seed))
    kept, labels = words.short_ones(words.numbered(texts, start_char, index_from), labels, maxlen)
    x = words.objects(words.limited(kept, num_words, skip_top, oov_char))
    end = int(len(x) * (1 - test_split))
    return (x[:end], labels[:end]), (x[end:], labels[end:])


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """The number of every word, without `index_from`.

    Args:
        path: name of the file in the folder of `utils.get_file`, or an absolute path.
    """
    return words.word_index(path, "reuters_word_index.json", "4d44cc38712099c9e383dc6e5f11a921")
