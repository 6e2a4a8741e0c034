"""TextVectorization. Expected numbers were made with Keras 3.15.1 where a comment says so."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.layers import LSTM, Dense, Embedding, TextVectorization
from lstm_native.models import Sequential

TEXTS = ["Foo bar.", "bar  BAZ!", "baz, bada\tboom"]


def adapted(**arguments: Any) -> TextVectorization:
    layer = TextVectorization(**arguments)
    layer.adapt(TEXTS)
    return layer


def test_words_become_numbers() -> None:
    layer = adapted(max_tokens=5000, output_sequence_length=4)
    # The most frequent first; among equals the last in the alphabet.
    assert layer.get_vocabulary() == ["", "[UNK]", "baz", "bar", "foo", "boom", "bada"]
    assert layer.get_vocabulary(include_special_tokens=False) == ["baz", "bar", "foo", "boom", "bada"]
    assert layer.vocabulary_size() == 7
    outputs = layer([["foo qux bar"], ["qux baz"]])  # Keras' own example
    assert outputs.dtype == np.int64
    assert outputs.tolist() == [[4, 1, 3, 0], [1, 2, 0, 0]]
    assert layer(["a b c d e foo"]).tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize(
    "texts",
    [
        ["foo qux", "", "baz"],
        ("foo qux", "", "baz"),
        np.array(["foo qux", "", "baz"]),
        np.array([["foo qux"], [""], ["baz"]], dtype=object),
        np.array([b"foo qux", b"", b"baz"]),
        [b"foo qux", "", b"baz"],
    ],
)
def test_forms_of_texts(texts: Any) -> None:
    assert adapted()(texts).tolist() == [[4, 1], [0, 0], [2, 0]]


def test_one_text_and_none() -> None:
    layer = adapted()
    assert layer("foo baz").tolist() == [4, 2]
    assert layer([]).shape == (0, 0)
    assert layer([""]).shape == (1, 0)


@pytest.mark.parametrize(
    ("standardize", "expected"),
    [
        ("lower_and_strip_punctuation", ["fooÉ", "éx_y"]),
        ("lower", ["foo,É", "éx_y!"]),
        ("strip_punctuation", ["FooÉ", "éX_Y"]),
        (None, ["Foo,É", "éX_Y!"]),
        (lambda texts: np.char.lower(texts), ["foo,é", "éx_y!"]),
    ],
)
def test_standardize(standardize: Any, expected: list[str]) -> None:
    layer = TextVectorization(standardize=standardize)
    layer.adapt(["Foo,É éX_Y!"])
    expected = [token.replace("_", "") if "strip" in str(standardize) else token for token in expected]
    assert sorted(layer.get_vocabulary(False)) == sorted(expected)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("whitespace", ["c", "b", "a\xa0b"]),
        ("character", ["\xa0", "c", "b", "a", " ", "\n"]),
        (None, ["b c\n", "a\xa0b"]),
        (lambda texts: [text.split("b") for text in texts], ["a\xa0", " c\n"]),
    ],
)
def test_split(split: Any, expected: list[str]) -> None:
    layer = TextVectorization(standardize=None, split=split)
    layer.adapt(["a\xa0b", "b c\n"])
    assert sorted(layer.get_vocabulary(False)) == sorted(expected)


def test_tokens_that_are_cut_already() -> None:
    layer = TextVectorization(split=None, vocabulary=["a", "b"])
    assert layer(["b", "x"]).tolist() == [3, 1]
    assert layer([["b"], ["a"]]).tolist() == [[3], [2]]
    assert layer([["b", "x"], ["a", ""]]).tolist() == [[3, 1], [2, 0]]


def test_ngrams() -> None:
    for ngrams, expected in ((2, ["a", "b", "c", "a b", "b c"]), ((2, 3), ["a b", "b c", "a b c"])):
        layer = TextVectorization(ngrams=ngrams)
        layer.adapt(["a b c"])
        assert sorted(layer.get_vocabulary(False)) == sorted(expected)


def test_counting_modes() -> None:
    texts = ["bar bar foo", "new new"]
    assert adapted(output_mode="count").get_vocabulary() == ["[UNK]", "baz", "bar", "foo", "boom", "bada"]
    assert adapted(output_mode="count")(texts).tolist() == [[0, 0, 2, 1, 0, 0], [2, 0, 0, 0, 0, 0]]
    assert adapted(output_mode="multi_hot")(texts).tolist() == [[0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    padded = adapted(output_mode="count", max_tokens=8, pad_to_max_tokens=True)(texts)
    assert padded.dtype == np.float32
    assert padded.shape == (2, 8)
    # log(1 + documents / (1 + documents with the token)); what is unknown counts like the mean.
    baz = bar = np.log(1 + 3 / 3)
    foo = np.log(1 + 3 / 2)
    unknown = (baz + bar + 3 * foo) / 5
    expected = [[0, 0, 2 * bar, foo, 0, 0], [2 * unknown, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(adapted(output_mode="tf_idf")(texts), expected, rtol=1e-6)


def test_weights_that_are_given() -> None:
    for vocabulary, weights, unknown in (
        (["a", "b"], [0.5, 0.25], 0.375),
        (["[UNK]", "a", "b"], [0.1, 0.5, 0.25], 0.1),
    ):
        layer = TextVectorization(output_mode="tf_idf", vocabulary=vocabulary, idf_weights=weights)
        np.testing.assert_allclose(layer(["x a b b"]), [[unknown, 0.5, 0.5]], rtol=1e-6)


def test_max_tokens_and_batches() -> None:
    assert adapted(max_tokens=4).get_vocabulary() == ["", "[UNK]", "baz", "bar"]
    assert adapted(max_tokens=4, output_mode="count").get_vocabulary() == ["[UNK]", "baz", "bar", "foo"]
    layer = TextVectorization()
    layer.adapt((batch for batch in (["a"], ["a b"], ["c"])), steps=2)
    assert layer.get_vocabulary(False) == ["a", "b"]
    layer.adapt(["d"])
    assert layer.get_vocabulary(False) == ["d"]
    assert copy.deepcopy(layer)(["d"]).tolist() == [[2]]


def test_vocabularies(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("foo\nbär\n", encoding="utf-8")
    for vocabulary in (["foo", "bär"], np.array(["", "[UNK]", "foo", "bär"]), str(tmp_path / "tokens")):
        layer = TextVectorization(vocabulary=vocabulary)
        assert layer(["bär x foo"]).tolist() == [[3, 1, 2]]
        with pytest.raises(ValueError, match="adapt after a vocabulary was given"):
            layer.adapt(["a"])
    layer = TextVectorization()
    layer.set_vocabulary(["a"])
    assert layer(["a b"]).tolist() == [[2, 1]]
    with pytest.raises(ValueError, match=r"\['b'\] twice"):
        layer.set_vocabulary(["b", "b"])
    assert layer.get_vocabulary(False) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"standardize": "lowr"}, "unknown standardize .*did you mean 'lower'"),
        ({"split": "words"}, "unknown split"),
        ({"output_mode": "ints"}, "did you mean 'int'"),
        ({"ngrams": 0}, "ngrams is 0"),
        ({"ngrams": ("2",)}, "ngrams is"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 1}, "max_tokens is 1, expected at least 2"),
        ({"output_mode": "count", "output_sequence_length": 3}, "output_sequence_length is for"),
        ({"pad_to_max_tokens": True, "max_tokens": 5}, "pad_to_max_tokens needs"),
        ({"max_tokens": 2, "vocabulary": ["a"]}, "max_tokens is 2"),
        ({"idf_weights": [1.0]}, "idf_weights without a vocabulary"),
        ({"vocabulary": ["a"], "idf_weights": [1.0]}, "idf_weights belong"),
        ({"vocabulary": ["a"], "output_mode": "tf_idf"}, "idf_weights belong"),
        ({"vocabulary": ["a"], "output_mode": "tf_idf", "idf_weights": [1, 2]}, "1 tokens"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextVectorization(**arguments)


def test_wrong_texts() -> None:
    for texts in ([1, 2], [None], np.ones(3)):
        with pytest.raises(TypeError, match="expected texts"):
            adapted()(texts)
    with pytest.raises(ValueError, match=r"texts have shape \(1, 2\)"):
        adapted()([["a", "b"]])


def test_texts_before_a_vocabulary() -> None:
    layer = TextVectorization()
    for call in (layer, lambda texts: Sequential([layer, Embedding(3, 2)]).predict(texts, verbose=0)):
        with pytest.raises(ValueError, match="there is no vocabulary yet: call adapt"):
            call(np.array(["a"]))
    layer.adapt([""])
    copied = TextVectorization.from_config(layer.get_config())
    assert layer(["a"]).tolist() == copied(["a"]).tolist() == [[1]]


def test_a_model_of_texts() -> None:
    layer = adapted(output_sequence_length=5)
    model = Sequential([layer, Embedding(7, 3), LSTM(4), Dense(1)])
    model.compile("adam", "mse")
    y = np.array([0.0, 1.0, 0.0])
    model.fit(np.array(TEXTS), y, epochs=2, verbose=0)
    alone = Sequential(model.layers[1:])
    assert np.array_equal(model.predict(np.array(TEXTS), verbose=0), alone.predict(layer(TEXTS), verbose=0))
    counting = Sequential([adapted(output_mode="count"), Dense(1)])
    with pytest.raises(ValueError, match="call the layer before the model"):
        counting.predict(np.array(TEXTS), verbose=0)
