"""Texts as numbers of words: Tokenizer and the small functions around it. Floor 4.

`layers.TextVectorization` is the newer way, and goes into files of models.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.arrays import optional_int
from lstm_native.errors import unknown_name

__all__ = ["Tokenizer", "hashing_trick", "one_hot", "text_to_word_sequence", "tokenizer_from_json"]

PUNCTUATION = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_MODES = ("binary", "count", "tfidf", "freq")
Analyzer = Callable[[str], Iterable[str]]


def text_to_word_sequence(
    input_text: str, filters: str = PUNCTUATION, lower: bool = True, split: str = " "
) -> list[str]:
    """The words of a text.

    Args:
        input_text: the text.
        filters: characters that separate words beside `split`; punctuation, tabs and newlines by default.
        lower: words in small letters (default True).
        split: what separates words (default a blank).
    """
    text = input_text.lower() if lower else input_text
    words = text.translate({ord(character): split for character in filters}).split(split)
    return [word for word in words if word]


def hashing_trick(
    text: str,
    n: int,
    hash_function: Callable[[str], int] | str | None = None,
    filters: str = PUNCTUATION,
    lower: bool = True,
    split: str = " ",
    analyzer: Analyzer | None = None,
) -> list[int]:
    """A number in [1, n) for every word of a text, without a vocabulary; different words may share one.

    Args:
        text: the text.
        n: size of the space of numbers.
        hash_function: "md5", the same in every process; None for Python's `hash`, which is not; or a
            function.
        filters, lower, split: as `text_to_word_sequence`.
        analyzer: cuts texts into words instead.
    """
    words = analyzer(text) if analyzer else text_to_word_sequence(text, filters, lower, split)
    if hash_function == "md5":
        hash_function = _md5
    number = hash if hash_function is None else hash_function
    if not callable(number):
        raise ValueError(f"hashing_trick: hash_function is {hash_function!r}, expected 'md5' or a function")
    return [number(word) % (n - 1) + 1 for word in words]


def one_hot(
    input_text: str,
    n: int,
    filters: str = PUNCTUATION,
    lower: bool = True,
    split: str = " ",
    analyzer: Analyzer | None = None,
) -> list[int]:
    """`hashing_trick` with Python's `hash`: numbers, whatever the name says."""
    return hashing_trick(input_text, n, hash, filters, lower, split, analyzer)


def _md5(word: str) -> int:
    import hashlib  # not at the top: it costs, and few programs come here

    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


class Tokenizer:
    """Numbers the words of texts by how often they occur, 1 for the most frequent; 0 is no word.

    Args:
        num_words: only words with smaller numbers are used; None for all.
        filters, lower, split: as `text_to_word_sequence`.
        char_level: every character is a word (default False).
        oov_token: stands for words that are not known and gets number 1; None leaves those out.
        analyzer: cuts texts into words instead.
        document_count: texts seen before (default 0).

    Attributes:
        word_counts: how often each word occurs.
        word_docs: in how many texts each word occurs.
        index_docs: the same by number.
        word_index, index_word: number of each word, and back; all words, whatever `num_words` is.
        document_count: number of texts seen.
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = PUNCTUATION,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Analyzer | None = None,
        document_count: int = 0,
    ) -> None:
        self.num_words = optional_int(num_words, "Tokenizer", "num_words")
        self.filters = filters
        self.lower = lower
        self.split = split
        self.char_level = char_level
        self.oov_token = oov_token
        self.analyzer = analyzer
        self.document_count = document_count
        self.word_counts: Counter[str] = Counter()
        self.word_docs: defaultdict[str, int] = defaultdict(int)
        self.index_docs: defaultdict[int, int] = defaultdict(int)
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def fit_on_texts(self, texts: Iterable[Any]) -> None:
        """Learns words; what was learned before stays, numbers change.

        Args:
            texts: texts, or lists of words.
        """
        if isinstance(texts, str):
            raise ValueError("Tokenizer: fit_on_texts got one text, expected a list of texts")
        # Put together at the end, for a text in the middle may be none.
        counts: Counter[str] = Counter()
        documents: Counter[str] = Counter()
        number_of_texts = 0
        for text in texts:
            words = self._words(text)
            number_of_texts += 1
            counts.update(words)
            documents.update(set(words))
        self.document_count += number_of_texts
        self.word_counts.update(counts)
        for word, count in documents.items():
            self.word_docs[word] += count
        # Equal counts stand in the order in which the words came first.
        ranked = sorted(self.word_counts, key=lambda word: -self.word_counts[word])
        known = ranked if self.oov_token is None else [self.oov_token, *ranked]
        self.word_index = {}
        for number, word in enumerate(known, 1):
            self.word_index[word] = number
        self.index_word = {number: word for word, number in self.word_index.items()}
        for word, count in self.word_docs.items():
            self.index_docs[self.word_index[word]] = count

    def fit_on_sequences(self, sequences: Iterable[Iterable[int]]) -> None:
        """Learns in how many sequences each number occurs, for "tfidf"; only needed without texts.

        Args:
            sequences: lists of word numbers.
        """
        for sequence in sequences:
            self.document_count += 1
            for number in set(sequence):
                self.index_docs[number] += 1

    def texts_to_sequences(self, texts: Iterable[Any]) -> list[list[int]]:
        """Word numbers of each text; unknown words are `oov_token` or left out."""
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[Any]) -> Iterator[list[int]]:
        """The same, text by text."""
        unknown = self._number_of_unknown()
        for text in texts:
            numbers = (self._limited(self.word_index.get(word), unknown) for word in self._words(text))
            yield [number for number in numbers if number is not None]

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Texts of word numbers, words separated by blanks."""
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable[Iterable[int]]) -> Iterator[str]:
        """The same, text by text."""
        unknown = self._number_of_unknown()
        for sequence in sequences:
            numbers = (self._limited(i if i in self.index_word else None, unknown) for i in sequence)
            yield " ".join(self.index_word[number] for number in numbers if number is not None)

    def texts_to_matrix(self, texts: Iterable[Any], mode: str = "binary") -> npt.NDArray[np.float64]:
        """A row for each text, a column for each word: see `sequences_to_matrix`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(
        self, sequences: Iterable[Iterable[int]], mode: str = "binary"
    ) -> npt.NDArray[np.float64]:
        """A row for each sequence, a column for each word number.

        Args:
            sequences: lists of word numbers.
            mode: "binary" (1 where a word occurs), "count", "freq" (count by length) or "tfidf":
                `(1 + log(count)) * log(1 + texts / (1 + texts with the word))`.

        Raises:
            ValueError: an unknown mode, or nothing learned that the size could be taken from.
        """
        if mode not in _MODES:
            raise unknown_name("mode of a Tokenizer", mode, _MODES)
        columns = self.num_words or (len(self.word_index) + 1 if self.word_index else 0)
        if not columns:
            raise ValueError("Tokenizer: pass num_words, or call fit_on_texts() first")
        if mode == "tfidf" and not self.document_count:
            raise ValueError("Tokenizer: mode 'tfidf' before any text was learned, call fit_on_texts() first")
        rows = [list(sequence) for sequence in sequences]
        matrix = np.zeros((len(rows), columns))
        for i, row in enumerate(rows):
            for number, count in Counter(row).items():
                if number >= columns:
                    continue
                if mode == "tfidf":
                    rarity = np.log(1 + self.document_count / (1 + self.index_docs.get(number, 0)))
                    matrix[i, number] = (1 + np.log(count)) * rarity
                else:
                    matrix[i, number] = {"binary": 1, "count": count, "freq": count / len(row)}[mode]
        return matrix

    def get_config(self) -> dict[str, Any]:
        """Arguments and everything learned, tables as JSON."""
        arguments = ("num_words", "filters", "lower", "split", "char_level", "oov_token", "document_count")
        tables = ("word_counts", "word_docs", "index_docs", "index_word", "word_index")
        return {
            **{name: getattr(self, name) for name in arguments},
            **{name: json.dumps(getattr(self, name)) for name in tables},
        }

    def to_json(self, **options: Any) -> str:
        """Everything as JSON, for `tokenizer_from_json`.

        Args:
            options: of `json.dumps`.
        """
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **options)

    def _words(self, text: Any) -> list[str]:
        if not self.char_level and not isinstance(text, list):
            if self.analyzer is not None:
                return list(self.analyzer(text))
            return text_to_word_sequence(text, self.filters, self.lower, self.split)
        return [word.lower() for word in text] if self.lower else list(text)

    def _number_of_unknown(self) -> int | None:
        return None if self.oov_token is None else self.word_index.get(self.oov_token)

    def _limited(self, number: int | None, unknown: int | None) -> int | None:
        within = number is not None and not (self.num_words and number >= self.num_words)
        return number if within else unknown


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """The `Tokenizer` that `to_json` wrote, of ours or of Keras.

    Raises:
        ValueError: no such JSON.
    """
    try:
        config = dict(json.loads(json_string)["config"])
        tables = {
            name: json.loads(config.pop(name))
            for name in ("word_counts", "word_docs", "index_docs", "index_word", "word_index")
        }
        tokenizer = Tokenizer(**config)
        tokenizer.word_counts.update(tables["word_counts"])
        tokenizer.word_docs.update(tables["word_docs"])
        tokenizer.index_docs.update({int(number): count for number, count in tables["index_docs"].items()})
        tokenizer.index_word = {int(number): word for number, word in tables["index_word"].items()}
        tokenizer.word_index = tables["word_index"]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"tokenizer_from_json: no configuration of a Tokenizer: {error}") from None
    return tokenizer
