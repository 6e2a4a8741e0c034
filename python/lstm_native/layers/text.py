"""TextVectorization: texts as token numbers, ready for an Embedding. Floor 4."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Result, Shape, optional_int
from lstm_native.configurable import short
from lstm_native.errors import unknown_name
from lstm_native.layers.base import Context, Layer, Tensor

Array = npt.NDArray[Any]
_OUT_OF_VOCABULARY = "[UNK]"
_STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation")
_SPLIT = ("whitespace", "character")
_MAX_NGRAM = 1000
_OUTPUT_MODES = ("int", "multi_hot", "count", "tf_idf")
# As in Keras: ASCII letters, ASCII punctuation and ASCII white space, whatever the language.
_LOWER: dict[int, int | None] = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_NO_PUNCTUATION: dict[int, int | None] = dict.fromkeys(map(ord, "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'"))
_WORD = re.compile(r"[^ \t\n\v\f\r]+")


class TextVectorization(Layer):
    """Cuts texts into tokens and numbers them by a vocabulary, which is given or learned with `adapt`.

    Called on texts it returns NumPy arrays. It may also be the first layer of a Sequential, whose `fit` and
    `predict` take texts then (`output_mode="int"` only).

    Args:
        max_tokens: largest size of the vocabulary, special tokens included; None for no limit.
        standardize: "lower_and_strip_punctuation" (default), "lower", "strip_punctuation", None, or a
            function of a NumPy array of texts. The names know ASCII letters and punctuation only, as those of
            Keras do; `lambda texts: numpy.char.lower(texts)` knows all.
        split: "whitespace" (default), "character", None (a text is one token; an array (batch, tokens) is cut
            already), or a function of a NumPy array of texts that returns a list of tokens for each.
        ngrams: an integer n adds runs of 2 to n tokens; a tuple gives the lengths, 1 for the tokens alone.
        output_mode: "int": numbers of the tokens; "multi_hot": 1 for every token that occurs; "count": how
            often it does; "tf_idf": that times its inverse document frequency.
        output_sequence_length: with "int", rows are cut or filled with 0 to this length; by default the
            longest text of the call decides.
        pad_to_max_tokens: rows of the other modes have `max_tokens` columns even with fewer tokens.
        vocabulary: tokens in their order, or the name of a file with one a line.
        idf_weights: with "tf_idf" and `vocabulary`, a weight for every token.
        encoding: of texts that are bytes.
        name: name of the layer.

    Raises:
        ValueError: an unknown name, or arguments that do not belong together.
    """

    config_attributes: ClassVar[dict[str, str | None]] = {
        "ngrams": "_given_ngrams",
        "vocabulary": "_known_tokens",
        "idf_weights": "_known_weights",
    }

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: str | Callable[[Any], Any] | None = "lower_and_strip_punctuation",
        split: str | Callable[[Any], Any] | None = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        encoding: str = "utf-8",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=False)
        for argument, value, known in (
            ("standardize", standardize, (*_STANDARDIZE, None)),
            ("split", split, (*_SPLIT, None)),
            ("output_mode", output_mode, _OUTPUT_MODES),
        ):
            if value not in known and (argument == "output_mode" or not callable(value)):
                raise unknown_name(f"{argument} of {self.label()}", value, filter(None, known))
        self.max_tokens = optional_int(max_tokens, self.label(), "max_tokens")
        if max_tokens == 1:
            raise self.error("max_tokens is 1, expected at least 2: unknown words are a token too")
        self.standardize = standardize
        self.split = split
        self.ngrams = self._check_ngrams(ngrams)
        self._given_ngrams = ngrams
        self.output_mode = output_mode
        self.output_sequence_length = optional_int(
            output_sequence_length, self.label(), "output_sequence_length"
        )
        if output_mode != "int" and output_sequence_length is not None:
            raise self.error(f"output_sequence_length is for output_mode 'int', which is {output_mode!r}")
        if pad_to_max_tokens and (output_mode == "int" or max_tokens is None):
            raise self.error("pad_to_max_tokens needs max_tokens and an output_mode other than 'int'")
        self.pad_to_max_tokens = pad_to_max_tokens
        self.encoding = encoding
        self._special = ["", _OUT_OF_VOCABULARY] if output_mode == "int" else [_OUT_OF_VOCABULARY]
        self._index: dict[str, int] = {}  # empty until there is a vocabulary
        self._tokens: list[str] = []
        self._idf: Array | None = None
        self._given = vocabulary is not None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)
        elif idf_weights is not None:
            raise self.error("idf_weights without a vocabulary")
        self.built = True

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """See `Configurable`. The vocabulary must be tokens: a configuration opens no files."""
        if isinstance(config.get("vocabulary"), str):
            raise ValueError(
                f"{cls.__name__}: vocabulary is {short(config['vocabulary'])} in a configuration, expected a "
                "list of tokens"
            )
        return super().from_config(config)

    def _check_ngrams(self, ngrams: Any) -> tuple[int, ...] | None:
        if ngrams is None:
            return None
        if isinstance(ngrams, int) and ngrams > _MAX_NGRAM:
            raise self.error(f"ngrams is {ngrams}, expected at most {_MAX_NGRAM}")
        lengths = tuple(range(1, ngrams + 1)) if isinstance(ngrams, int) else tuple(ngrams)
        if not lengths or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in lengths):
            raise self.error(f"ngrams is {ngrams!r}, expected a positive integer or a tuple of them")
        return lengths

    # --- vocabulary -------------------------------------------------------------------------------

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learns the vocabulary: the most frequent tokens first, among equals the last in the alphabet.

        Args:
            data: list or array of texts, or an iterable of such batches.
            batch_size: accepted as Keras has it.
            steps: number of batches of an iterable; all by default.

        Raises:
            ValueError: the layer was given a vocabulary.
        """
        if self._given:
            raise self.error("adapt after a vocabulary was given, make another layer")
        plain = isinstance(data, str | bytes | list | tuple | np.ndarray)
        batches = [data] if plain else islice(data, steps)
        counts: Counter[str] = Counter()
        documents: Counter[str] = Counter()
        number = 0
        for batch in batches:
            for tokens in self._tokenize(batch):
                counts.update(tokens)
                documents.update(set(tokens))
                number += 1
        for special in ("", _OUT_OF_VOCABULARY):
            del counts[special]
        # By code points, which is the order of the UTF-8 bytes too.
        ordered = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
        if self.max_tokens is not None:
            ordered = ordered[: max(self.max_tokens - len(self._special), 0)]
        idf = None
        if self.output_mode == "tf_idf":
            idf = np.log1p(number / (1 + np.array([documents[token] for token in ordered], np.float64)))
        self._take(ordered, idf)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Takes a vocabulary, with or without the special tokens at its start.

        Args:
            vocabulary: tokens in their order, or the name of a file with one a line.
            idf_weights: with "tf_idf", a weight for every token.

        Raises:
            ValueError: repeated tokens, more than `max_tokens`, or weights of another number.
        """
        if isinstance(vocabulary, str | os.PathLike):
            with open(vocabulary, encoding=self.encoding) as file:
                vocabulary = file.read().splitlines()
        tokens = self._texts(vocabulary)
        if (idf_weights is None) == (self.output_mode == "tf_idf"):
            raise self.error("idf_weights belong to a vocabulary with output_mode 'tf_idf', and only there")
        idf = None if idf_weights is None else np.asarray(idf_weights, np.float64)
        if idf is not None and idf.shape != (len(tokens),):
            raise self.error(f"idf_weights have shape {idf.shape}, the vocabulary has {len(tokens)} tokens")
        special = len(self._special)
        if tokens[:special] == self._special:
            tokens = tokens[special:]
        repeated = [token for token, count in Counter(tokens).items() if count > 1]
        if repeated or "" in tokens:
            raise self.error(f"vocabulary has the tokens {repeated or ['']} twice, expected each once")
        if self.max_tokens is not None and special + len(tokens) > self.max_tokens:
            raise self.error(
                f"vocabulary has {special + len(tokens)} tokens, max_tokens is {self.max_tokens}"
            )
        self._given = True
        self._take(tokens, idf)

    def _take(self, tokens: list[str], idf: Array | None) -> None:
        start = len(self._special)
        self._tokens = tokens
        self._index = {"": 0} | {token: i for i, token in enumerate(tokens, start)}
        if idf is not None:
            # What is not in the vocabulary counts like the mean of what is, unless its weight was given.
            front = np.full(start + len(tokens) - len(idf), idf.mean() if len(idf) else 0.0)
            self._idf = np.concatenate([front, idf]).astype(np.float32)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The tokens in the order of their numbers.

        Args:
            include_special_tokens: with "" (only in mode "int") and "[UNK]" at the start.
        """
        return [*self._special, *self._tokens] if include_special_tokens else list(self._tokens)

    @property
    def _known_tokens(self) -> list[str] | None:
        """The vocabulary, given or learnt, for a configuration."""
        if not self._index:
            return None
        return self.get_vocabulary(include_special_tokens=self._idf is not None)  # which have weights too

    @property
    def _known_weights(self) -> list[float] | None:
        return None if self._idf is None else self._idf.tolist()

    def vocabulary_size(self) -> int:
        """Number of tokens, special ones included."""
        return len(self._special) + len(self._tokens)

    # --- texts to numbers -------------------------------------------------------------------------

    def _texts(self, data: Any) -> list[str]:
        """Texts of any form as a flat list."""
        texts = [data] if isinstance(data, str | bytes) else np.asarray(data, dtype=object)
        if isinstance(texts, np.ndarray):
            if texts.ndim == 2 and texts.shape[1] == 1:
                texts = texts[:, 0]
            if texts.ndim != 1:
                raise self.error(f"texts have shape {texts.shape}, expected (batch,) or (batch, 1)")
        flat = [text.decode(self.encoding) if isinstance(text, bytes) else text for text in texts]
        for text in flat:
            if not isinstance(text, str):
                raise TypeError(f"{self.label()}: got {text!r}, expected texts")
        return flat

    def _standardized(self, texts: list[str]) -> list[str]:
        if callable(self.standardize):
            return [str(text) for text in self.standardize(np.array(texts, dtype=str))]
        table: dict[int, int | None] = {}
        if self.standardize in ("lower", "lower_and_strip_punctuation"):
            table |= _LOWER
        if self.standardize in ("strip_punctuation", "lower_and_strip_punctuation"):
            table |= _NO_PUNCTUATION
        return [text.translate(table) for text in texts] if table else texts

    def _tokenize(self, data: Any) -> Iterable[Sequence[str]]:
        rows: Iterable[Sequence[str]]
        if self.split is None and np.ndim(data) == 2:  # tokens already
            rows = [self._standardized(self._texts(row)) for row in data]
            return rows if self.ngrams is None else [self._runs(row) for row in rows]
        texts = self._standardized(self._texts(data))
        if callable(self.split):
            rows = [[str(token) for token in row] for row in self.split(np.array(texts, dtype=str))]
        elif self.split == "whitespace":
            rows = map(_WORD.findall, texts)
        else:
            rows = map(list, texts) if self.split == "character" else ([text] for text in texts)
        return rows if self.ngrams is None else (self._runs(row) for row in rows)

    def _runs(self, tokens: Sequence[str]) -> list[str]:
        assert self.ngrams is not None
        return [" ".join(tokens[i : i + n]) for n in self.ngrams for i in range(len(tokens) - n + 1)]

    def __call__(self, inputs: Any, **_: Any) -> Any:
        """Numbers for texts.

        Args:
            inputs: a text, or a list or array (batch,) or (batch, 1) of texts.

        Returns:
            int64 (batch, time) in mode "int", else float32 (batch, tokens); without the batch axis for a
            single text, without the time axis for an array (batch,) with `split=None`.

        Raises:
            ValueError: there is no vocabulary yet.
        """
        if not self._index:
            raise self.error("there is no vocabulary yet: call adapt(texts) first, or pass vocabulary")
        get, unknown = self._index.get, len(self._special) - 1
        rows = [[get(token, unknown) for token in tokens] for tokens in self._tokenize(inputs)]
        lengths = np.array([len(row) for row in rows], np.intp)
        flat = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        outputs = self._padded(flat, lengths) if self.output_mode == "int" else self._counted(flat, lengths)
        if isinstance(inputs, str | bytes):
            return outputs[0].view(Result)
        if self.split is None and self.output_mode == "int" and np.ndim(inputs) == 1:
            return outputs[:, 0].view(Result)  # a number for each text, as Keras has it
        return outputs.view(Result)

    def _padded(self, numbers: Array, lengths: Array) -> Array:
        columns = np.arange(lengths.max(initial=0))
        result = np.zeros((len(lengths), len(columns)), np.int64)
        result[columns < lengths[:, None]] = numbers
        size = self.output_sequence_length
        if size is None:
            return result
        return np.pad(result[:, :size], ((0, 0), (0, max(size - len(columns), 0))))

    def _counted(self, numbers: Array, lengths: Array) -> Array:
        size = self.vocabulary_size()
        places = np.repeat(np.arange(len(lengths)), lengths) * size + numbers
        counts = np.bincount(places, minlength=len(lengths) * size).reshape(len(lengths), size)
        result: Array = (counts > 0 if self.output_mode == "multi_hot" else counts).astype(np.float32)
        if self.output_mode == "tf_idf":
            result *= 1.0 if self._idf is None else self._idf
        if self.pad_to_max_tokens:
            assert self.max_tokens is not None
            result = np.pad(result, ((0, 0), (0, self.max_tokens - size)))
        return result

    # --- as first layer of a model ----------------------------------------------------------------

    def as_input(self, inputs: Any) -> Tensor:
        if self.output_mode != "int":
            raise self.error(
                "in a model only output_mode 'int' works; call the layer before the model instead"
            )
        return _core.as_tensor(self([inputs] if isinstance(inputs, str) else inputs), "int32")

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        return inputs

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> None:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)
