"""What training on the CUDA backend needs beside the layers: masks of dropout drawn on the device, gradients
of embeddings with dominant ids, and how much is copied. Where there is no GPU, it runs on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_native as ln
from cuda_support import Copies, copies, open_for_tests
from lstm_native import _core, layers
from native_support import assert_bits, f32
from test_cuda_backend import there

Array = npt.NDArray[Any]


@pytest.fixture(scope="module", autouse=True)
def device(tmp_path_factory: pytest.TempPathFactory) -> None:
    open_for_tests(tmp_path_factory.mktemp("cuda"))


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1,), (1,)),
    ((1000,), (1000,)),
    ((7, 5, 3), (7, 5, 3)),
    ((7, 5, 3), (7, 1, 3)),
    ((7, 5, 3), (7, 1, 1)),
    ((7, 5, 3), (1, 5, 1)),
    ((7, 5, 3), (1, 1, 3)),
    ((4, 1, 6), (1, 1, 6)),
    ((2, 3, 4, 5, 6), (2, 1, 4, 1, 6)),
    ((3, 4), (1, 1)),
    ((0, 4), (0, 4)),
]


@pytest.mark.parametrize(("shape", "drawn"), SHAPES)
def test_masks_of_dropout_are_the_same_everywhere(shape: tuple[int, ...], drawn: tuple[int, ...]) -> None:
    seed, offset = 2**63 + 5, 2**33 + 1
    numbers = _core.dropout_mask(drawn, 0.3, seed, offset).numpy()
    expected = np.ascontiguousarray(np.broadcast_to(numbers, shape))
    for where in ("cpu", "cuda"):
        mask = _core.dropout_mask(shape, 0.3, seed, offset, drawn, where)
        assert mask.device == where
        assert_bits(mask.numpy(), expected, where)


def test_masks_of_dropout_that_do_not_fit() -> None:
    for drawn in ((7, 2), (7,), (1, 7, 5)):
        with pytest.raises(ValueError, match=r"do not broadcast to \(7, 5\)"):
            _core.dropout_mask((7, 5), 0.3, 1, 1, drawn, "cuda")
    with pytest.raises(ValueError, match="rate is 1"):
        _core.dropout_mask((7,), 1.0, 1, 1, (7,), "cuda")


@pytest.mark.parametrize("places", [1, 31, 32, 33, 1024, 5000])
@pytest.mark.parametrize("kind", ["one", "dominant", "all", "sorted"])
def test_embedding_gradients_with_dominant_ids(kind: str, places: int) -> None:
    """Long runs of an id are summed in parts (csrc/cuda/layers.cu)."""
    rng = np.random.default_rng(places)
    rows = 9
    ids = {
        "one": np.full(places, 4),
        "dominant": np.where(rng.random(places) < 0.9, 3, rng.integers(0, rows, places)),
        "all": rng.integers(0, rows, places),
        "sorted": np.sort(rng.integers(0, rows, places)),
    }[kind].astype(np.int32)
    d = f32(rng.normal(size=(places, 5)))
    exact = np.zeros((rows, 5))
    np.add.at(exact, ids, d.astype(np.float64))
    got = [_core.embedding_backward(there(ids, "int32"), there(d), rows).numpy() for _ in range(2)]
    # Random walks of up to 5000 numbers of order 1, rounded to 6e-8 of what they have become at each step.
    np.testing.assert_allclose(got[0], exact, rtol=1e-5, atol=6e-8 * places)
    assert_bits(got[0], got[1], "two runs")


def words() -> tuple[ln.Model, Array]:
    model = ln.Sequential(
        [
            ln.Input((20,)),
            ln.Embedding(50, 16, mask_zero=True),
            layers.Bidirectional(ln.LSTM(32, dropout=0.2, recurrent_dropout=0.2, return_sequences=True)),
            ln.Dropout(0.5),
            ln.GRU(8),
            ln.Dense(1, activation="sigmoid"),
        ]
    )
    return model, np.random.default_rng(0).integers(0, 50, (64, 20))


def features() -> tuple[ln.Model, Array]:
    lstm = ln.LSTM(32, kernel_regularizer="l2", recurrent_regularizer="l1")
    dense = ln.Dense(1, activation="sigmoid", kernel_regularizer=ln.regularizers.L1L2(0.01, 0.01))
    model = ln.Sequential([ln.Input((20, 6)), lstm, dense])
    return model, f32(np.random.default_rng(0).normal(size=(64, 20, 6)))


@pytest.mark.parametrize("metrics", [[], ["accuracy"]])
@pytest.mark.parametrize("make", [words, features])
def test_a_step_of_training_copies_little(
    make: Callable[[], tuple[ln.Model, Array]], metrics: list[str]
) -> None:
    """To the device the batch and small numbers of its rows and steps; from it the losses of the rows, parts
    of the penalties, and predictions where metrics want them. Weights, states, masks of dropout, slots of the
    optimizer: none."""
    model, x = make()
    y = np.zeros((64, 1), np.float32)
    model.compile("adam", "binary_crossentropy", metrics=metrics)
    model.to("cuda")

    def fit(epochs: int) -> list[Any]:
        before = copies()
        model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, shuffle=False)
        return [now.since(then) for now, then in zip(copies(), before, strict=True)]

    fit(1)
    one, three = fit(1), fit(3)
    to_device, to_host = (b.since(a) for a, b in zip(one, three, strict=True))
    steps = 2 * 8
    rows = 8 * 4  # bytes of a float32 a row
    losses = Copies(steps * (1 + len(metrics)), steps * (1 + len(metrics)) * rows)
    sums = 4  # of the penalties: two of the LSTM, two of Dense
    penalties = Copies(steps, steps * sums * 8) if make is features else Copies(0, 0)
    assert to_host.since(penalties) == losses
    batch = 8 * 20 * (6 * 4 if make is features else 4)
    # Twice for ids: which rows, and the place of each. Then a control byte a step for three layers, and
    # labels and weights of the rows.
    others = batch + 3 * 8 * 20 + 160 if make is words else 0
    assert to_device.bytes <= steps * (batch + others + 3 * rows)
    assert to_device.number <= steps * 10


def test_clipping_means_and_accumulation_stay_there() -> None:
    """Clipping by norms brings their parts to the host, once; means and accumulated gradients nothing."""
    model, x = features()
    optimizer = ln.Adam(global_clipnorm=0.1, use_ema=True, gradient_accumulation_steps=2)
    model.compile(optimizer, "binary_crossentropy")
    model.to("cuda")
    y = np.zeros((64, 1), np.float32)
    model.fit(x, y, batch_size=8, verbose=0)
    before = copies()
    model.fit(x, y, batch_size=8, verbose=0)
    to_device, to_host = (now.since(then) for now, then in zip(copies(), before, strict=True))
    steps, variables = 8, len(model.variables)
    finished = Copies(
        variables, sum(4 * v.size for v in model.variables)
    )  # when fit ends: the means in their places
    assert to_host.number - finished.number <= 2 * steps + steps // 2  # losses, penalties, norms
    assert to_host.bytes - finished.bytes <= steps * (8 * 4 + 4 * 8) + steps // 2 * variables * 8
    assert to_device.number - finished.number <= steps * 4
