"""preprocessing: Tokenizer, TimeseriesGenerator, skipgrams, under the names of programs for Keras 2."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import lstm_native
from lstm_native.layers import LSTM, Dense
from lstm_native.models import Sequential
from lstm_native.preprocessing.sequence import (
    TimeseriesGenerator,
    make_sampling_table,
    pad_sequences,
    skipgrams,
)
from lstm_native.preprocessing.text import (
    Tokenizer,
    hashing_trick,
    one_hot,
    text_to_word_sequence,
    tokenizer_from_json,
)

TEXTS = ["The cat sat.", "the dog, the cat!", "A dog"]


def fitted(**options: object) -> Tokenizer:
    tokenizer = Tokenizer(**options)  # type: ignore[arg-type]
    tokenizer.fit_on_texts(TEXTS)
    return tokenizer


def test_the_names_are_where_programs_look_for_them() -> None:
    assert lstm_native.preprocessing.sequence.pad_sequences is lstm_native.utils.pad_sequences
    assert pad_sequences is lstm_native.utils.pad_sequences
    of_array = lstm_native.preprocessing.timeseries_dataset_from_array
    assert of_array is lstm_native.utils.timeseries_dataset_from_array


def test_words_are_numbered_by_frequency_then_by_first_occurrence() -> None:
    tokenizer = fitted()
    assert tokenizer.word_index == {"the": 1, "cat": 2, "dog": 3, "sat": 4, "a": 5}
    assert tokenizer.index_word[2] == "cat"
    assert dict(tokenizer.word_counts) == {"the": 3, "cat": 2, "sat": 1, "dog": 2, "a": 1}
    assert dict(tokenizer.word_docs) == {"the": 2, "cat": 2, "sat": 1, "dog": 2, "a": 1}
    assert tokenizer.document_count == 3
    assert tokenizer.texts_to_sequences(["the cat flew"]) == [[1, 2]]
    assert tokenizer.sequences_to_texts([[1, 2, 9]]) == ["the cat"]


def test_a_failing_fit_leaves_what_was_learned() -> None:
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["a b", "a"])
    before = tokenizer.to_json()
    with pytest.raises(AttributeError):
        tokenizer.fit_on_texts(["a c", 5])
    assert tokenizer.to_json() == before


def test_unknown_and_rare_words() -> None:
    tokenizer = fitted(num_words=3, oov_token="<OOV>")
    assert tokenizer.word_index == {"<OOV>": 1, "the": 2, "cat": 3, "dog": 4, "sat": 5, "a": 6}
    assert tokenizer.texts_to_sequences(["the cat flew"]) == [[2, 1, 1]]
    assert tokenizer.sequences_to_texts([[2, 5, 77]]) == ["the <OOV> <OOV>"]
    assert fitted(num_words=3).texts_to_sequences(["the cat a dog"]) == [[1, 2]]


def test_characters_lists_of_words_and_analyzers() -> None:
    characters = fitted(char_level=True, lower=False)
    assert characters.texts_to_sequences(["tac"]) == [[characters.word_index[c] for c in "tac"]]
    words = Tokenizer()
    words.fit_on_texts([["One", "two"], ["ONE"]])
    assert words.word_index == {"one": 1, "two": 2}
    cut = Tokenizer(analyzer=lambda text: text.split("-"))
    cut.fit_on_texts(["a-b", "b"])
    assert cut.word_index == {"b": 1, "a": 2}


def test_matrices() -> None:
    tokenizer = fitted()
    rows = tokenizer.texts_to_sequences(TEXTS)
    count = tokenizer.texts_to_matrix(TEXTS, mode="count")
    for row, numbers in zip(count, rows, strict=True):
        np.testing.assert_array_equal(row, np.bincount(numbers, minlength=6))
    np.testing.assert_array_equal(tokenizer.texts_to_matrix(TEXTS), count > 0)
    np.testing.assert_array_equal(
        tokenizer.texts_to_matrix(TEXTS, mode="freq"), count / count.sum(axis=1, keepdims=True)
    )
    rarity = np.log(1 + 3 / (1 + (count > 0).sum(axis=0)))
    expected = np.where(count > 0, (1 + np.log(np.maximum(count, 1))) * rarity, 0)
    np.testing.assert_allclose(tokenizer.texts_to_matrix(TEXTS, mode="tfidf"), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="did you mean 'tfidf'"):
        tokenizer.texts_to_matrix(TEXTS, mode="tf-idf")
    with pytest.raises(ValueError, match="fit_on_texts"):
        Tokenizer().texts_to_matrix(["a"])


def test_tokenizers_go_through_json_and_pickle() -> None:
    tokenizer = fitted(num_words=4, oov_token="?")
    copies = tokenizer_from_json(tokenizer.to_json()), pickle.loads(pickle.dumps(tokenizer))
    for copy in copies:
        assert vars(copy) == vars(tokenizer)
        assert copy.texts_to_sequences(TEXTS) == tokenizer.texts_to_sequences(TEXTS)
    with pytest.raises(ValueError, match="no configuration of a Tokenizer"):
        tokenizer_from_json("{}")
    with pytest.raises(ValueError, match="one text"):
        tokenizer.fit_on_texts("a text")


def test_words_and_hashes() -> None:
    assert text_to_word_sequence("Hello, World! It's") == ["hello", "world", "it's"]
    assert text_to_word_sequence("a b", filters="b", lower=False) == ["a"]
    # The digests of MD5 are the same everywhere.
    assert (
        hashing_trick("hello hello", 10, "md5") == [int("5d41402abc4b2a76b9719d911017c592", 16) % 9 + 1] * 2
    )
    numbers = one_hot("a b a", 50)
    assert numbers[0] == numbers[2]
    assert all(0 < n < 50 for n in numbers)


@pytest.mark.parametrize("reverse", [False, True])
def test_windows_of_a_generator(reverse: bool) -> None:
    x, y = np.arange(30.0).reshape(15, 2), np.arange(15)
    generator = TimeseriesGenerator(
        x, y, length=4, sampling_rate=2, stride=3, start_index=1, end_index=12, reverse=reverse, batch_size=2
    )
    assert len(generator) == 2
    rows = list(range(5, 13, 3))
    batches = [generator[i] for i in range(2)]
    expected = np.array([x[[row - 4, row - 2]] for row in rows])
    samples = np.concatenate([batch[0] for batch in batches])
    np.testing.assert_array_equal(samples, expected[:, ::-1] if reverse else expected)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), rows)
    assert '"length": 4' in generator.to_json()


def test_models_learn_from_a_generator() -> None:
    series = np.arange(10.0).reshape(-1, 1) / 10
    generator = TimeseriesGenerator(series, series, length=2, batch_size=3)
    model = Sequential([LSTM(3, input_shape=(2, 1)), Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(generator, epochs=2, verbose=0)
    x = np.concatenate([batch[0] for batch in generator])
    np.testing.assert_array_equal(model.predict(generator, verbose=0), model.predict(x, verbose=0))
    shuffled = TimeseriesGenerator(series, series, length=2, batch_size=3, shuffle=True)
    a, b = shuffled[0]
    np.testing.assert_allclose(a[:, 1] + 0.1, b)


def test_generators_refuse_what_does_not_fit() -> None:
    x = np.zeros((5, 1))
    with pytest.raises(ValueError, match="5 steps and targets 4"):
        TimeseriesGenerator(x, x[:4], length=2)
    with pytest.raises(ValueError, match="no row is left"):
        TimeseriesGenerator(x, x, length=5)
    with pytest.raises(ValueError, match="length is 0"):
        TimeseriesGenerator(x, x, length=0)
    with pytest.raises(ValueError, match="5 steps"):
        TimeseriesGenerator(x, x, length=2, end_index=9)


def test_pairs_of_words() -> None:
    pairs, labels = skipgrams(
        [1, 2, 0, 3], vocabulary_size=5, window_size=1, negative_samples=0, shuffle=False
    )
    assert pairs == [[1, 2], [2, 1]]
    assert labels == [1, 1]
    pairs, labels = skipgrams([1, 2, 3], 9, window_size=2, negative_samples=2, seed=1)
    assert len(pairs) == len(labels) == 18
    assert sum(labels) == 6
    assert {tuple(p) for p, label in zip(pairs, labels, strict=True) if label} == {
        (a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b
    }
    assert (pairs, labels) == skipgrams([1, 2, 3], 9, window_size=2, negative_samples=2, seed=1)
    assert skipgrams([1, 2], 5, sampling_table=np.zeros(5)) == ([], [])
    categorical = skipgrams([1, 2], 5, negative_samples=1, categorical=True, shuffle=False)[1]
    assert categorical == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_the_table_of_probabilities() -> None:
    table = make_sampling_table(10_000)
    assert table.shape == (10_000,)
    assert table[0] == table[1]
    # word2vec's formula for a rank far down the list.
    frequency = 1 / (5000 * (np.log(5000) + 0.577) + 0.5 - 1 / 60_000)
    assert table[5000] == pytest.approx(np.sqrt(1e-5 / frequency), rel=1e-6)
    assert (np.diff(table[1:]) > 0).all()
