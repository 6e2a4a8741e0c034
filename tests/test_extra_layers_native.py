"""Native merging of directions, layer normalization and additive scores, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from layer_support import FORWARD, GRADIENT, close, difference, draw, f64
from lstm_native import _core
from native_support import Array, assert_bits, tensor, variable

MODES = ("concat", "sum", "ave", "mul")


def merged(mode: str, forward: Array, backward: Array) -> Array:
    backward = backward[:, ::-1] if backward.ndim == 3 else backward
    if mode == "concat":
        return np.concatenate([forward, backward], -1)
    if mode == "mul":
        return forward * backward
    return (forward + backward) * (0.5 if mode == "ave" else 1.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 1), (2, 7), (33, 40, 17), (0, 3, 2)])
def test_merge(mode: str, shape: tuple[int, ...]) -> None:
    a, b, d = draw(shape, 1), draw(shape, 2), draw(shape, 3)
    assert_bits(
        _core.merge_forward(mode, tensor(a), tensor(b)).numpy(), merged(mode, a, b).astype(np.float32)
    )
    if mode == "concat":
        d = draw((*shape[:-1], 2 * shape[-1]), 3)
    given = (tensor(a), tensor(b)) if mode == "mul" else (None, None)
    d_a, d_b = _core.merge_backward(mode, tensor(d), shape[-1], *given)
    turned = np.ascontiguousarray(d[:, ::-1]) if d.ndim == 3 else d
    other = np.ascontiguousarray(b[:, ::-1]) if b.ndim == 3 else b
    this = np.ascontiguousarray(a[:, ::-1]) if a.ndim == 3 else a
    units = shape[-1]
    if mode == "concat":
        expected = d[..., :units], turned[..., units:]
    elif mode == "mul":
        expected = d * other, turned * this
    else:
        expected = (d / 2, turned / 2) if mode == "ave" else (d, turned)
    assert d_a is not None
    for got, wanted in zip((d_a, d_b), expected, strict=True):
        assert_bits(got.numpy(), np.ascontiguousarray(wanted))


def test_merge_turns_one_direction_round() -> None:
    b = draw((2, 5, 3))
    assert_bits(_core.merge_forward("concat", None, tensor(b)).numpy(), np.ascontiguousarray(b[:, ::-1]))
    d_a, d_b = _core.merge_backward("concat", tensor(b), 0, None, None)
    assert d_a is None
    assert_bits(d_b.numpy(), np.ascontiguousarray(b[:, ::-1]))


def test_merge_refuses() -> None:
    a, b = tensor(draw((2, 5, 3))), tensor(draw((2, 5, 4)))
    assert _core.merge_forward("concat", a, b).shape == (2, 5, 7)
    for call, message in (
        (lambda: _core.merge_forward("sum", a, b), "3 and 4 units"),
        (lambda: _core.merge_forward("max", a, a), "merge_mode is 'max'"),
        (lambda: _core.merge_forward("concat", a, tensor(draw((2, 4, 3)))), "forward outputs"),
        (lambda: _core.merge_backward("sum", a, 2, None, None), "2 forward units"),
        (lambda: _core.merge_backward("mul", a, 3, b, b), "output gradient has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def normalized(x: Array, gamma: Array | None, beta: Array | None, epsilon: float, rms: bool) -> Array:
    mean = x.mean(-1, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon)
    y = (x if rms else x - mean) / deviation
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 5, 16, 31, 70])
def test_layer_norm(columns: int, scaled: bool, rms: bool) -> None:
    x, d = draw((4, columns), columns), draw((4, columns), 1)
    gamma, beta = (draw((columns,), 2), draw((columns,), 3)) if scaled else (None, None)
    weights = _core.LayerNormWeights(
        None if gamma is None else variable(gamma), None if beta is None else variable(beta), 0.1, rms
    )
    wide = [None if a is None else f64(a) for a in (x, gamma, beta)]

    def f() -> Array:
        return normalized(wide[0], wide[1], wide[2], 0.1, rms)  # type: ignore[arg-type]

    y, mean, inverse = _core.layer_norm_forward(weights, tensor(x), columns, True)
    assert mean is not None
    assert inverse is not None
    close(y, f(), FORWARD)
    got = _core.layer_norm_backward(weights, tensor(x), columns, mean, inverse, tensor(d), True)
    for value, array in zip(got, wide, strict=True):
        assert (value is None) == (array is None)
        if value is not None and array is not None:
            close(value, difference(f, array, f64(d)), GRADIENT)
    assert _core.layer_norm_forward(weights, tensor(x), columns, False)[1:] == (None, None)
    assert _core.layer_norm_backward(weights, tensor(x), columns, mean, inverse, tensor(d), False)[0] is None


def test_layer_norm_of_large_means() -> None:
    """The variance does not come from a difference of squares."""
    x = 1000.0 + draw((3, 64))
    weights = _core.LayerNormWeights(None, None, 1e-3, False)
    y = _core.layer_norm_forward(weights, tensor(x), 64, False)[0]
    # x itself has lost digits: half a unit of 1024 is 3e-5.
    close(y, normalized(f64(x), None, None, 1e-3, False), 2e-4)


def test_layer_norm_refuses() -> None:
    weights = _core.LayerNormWeights(variable(np.ones(3)), None, 1e-3, False)
    with pytest.raises(ValueError, match="gamma has 3 elements"):
        _core.layer_norm_forward(weights, tensor(draw((2, 4))), 4, False)
    with pytest.raises(ValueError, match="rows of 3 elements"):
        _core.layer_norm_forward(weights, tensor(draw((2, 4))), 3, False)


def scores(query: Array, key: Array, scale: Array | None) -> Array:
    t = np.tanh(query[:, :, None] + key[:, None])
    return np.asarray((t if scale is None else t * scale).sum(-1))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dim", [1, 3, 16, 21])
def test_additive_scores(isa: str, dim: int, scaled: bool) -> None:
    query, key = draw((2, 3, dim), 1), draw((2, 4, dim), 2)
    scale = draw((dim,), 3) if scaled else None
    d = draw((2, 3, 4), 4)
    given = tensor(query), tensor(key), None if scale is None else tensor(scale)
    wide = [None if a is None else f64(a) for a in (query, key, scale)]

    def f() -> Array:
        return scores(*wide)  # type: ignore[arg-type]

    close(_core.additive_scores_forward(*given), f(), FORWARD)
    for value, array in zip(_core.additive_scores_backward(*given, tensor(d)), wide, strict=True):
        assert (value is None) == (array is None)
        if value is not None and array is not None:
            close(value, difference(f, array, f64(d)), GRADIENT)


def test_additive_scores_refuse() -> None:
    query, key = tensor(draw((2, 3, 5))), tensor(draw((2, 4, 6)))
    with pytest.raises(ValueError, match=r"query is float32 \(2, 3, 5\) and key float32 \(2, 4, 6\)"):
        _core.additive_scores_forward(query, key, None)
    with pytest.raises(ValueError, match="scale"):
        _core.additive_scores_forward(query, query, tensor(draw((4,))))
    with pytest.raises(ValueError, match="gradient of the scores"):
        _core.additive_scores_backward(query, query, None, query)


def test_bits_do_not_depend_on_threads_or_batch(threads: Callable[[int], None]) -> None:
    x, d = draw((64, 50, 96), 1), draw((64, 50, 96), 2)
    query, d_scores = draw((16, 20, 32), 3), draw((16, 20, 20), 4)
    weights = _core.LayerNormWeights(variable(draw((96,), 5)), variable(draw((96,), 6)), 1e-3, False)

    def results(rows: slice) -> list[Array]:
        y, mean, inverse = _core.layer_norm_forward(weights, tensor(x[rows]), 96, True)
        assert mean is not None
        assert inverse is not None
        gradients = _core.layer_norm_backward(
            weights, tensor(x[rows]), 96, mean, inverse, tensor(d[rows]), True
        )
        merge = _core.merge_forward("mul", tensor(x[rows]), tensor(d[rows]))
        back = _core.merge_backward("mul", tensor(d[rows]), 96, tensor(x[rows]), tensor(d[rows]))
        q = tensor(query[rows])
        added = _core.additive_scores_backward(q, q, tensor(query[0, 0]), tensor(d_scores[rows]))
        score = _core.additive_scores_forward(q, q, None)
        each = (y, merge, score, *back, *added[:2], gradients[0], *gradients[1:], added[2])
        return [t.numpy() for t in each if t is not None]

    threads(1)
    expected = results(slice(None))
    for n in (2, 3, 7):
        threads(n)
        for got, wanted in zip(results(slice(None)), expected, strict=True):
            assert_bits(got, wanted, f"{n} threads")
    for got, wanted in zip(results(slice(3, 4))[:-3], expected[:-3], strict=True):
        assert_bits(got[0], wanted[3], "a row alone")
