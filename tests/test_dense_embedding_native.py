"""The native Dense and Embedding against the yardstick, on every instruction set."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import reference as ref
from lstm_native import _core
from native_support import UNIT_ROUNDOFF, Array, assert_bits, f32, tensor, using_isa, variable


def assert_product(got: Array, expected: Array, magnitude: Array, inner: int, name: str) -> None:
    """A float32 sum of `inner` terms is off by at most 4 sqrt(inner) u times the sum of their magnitudes, but
    for one element in a thousand millions (Higham and Mary 2019, SIAM J. Sci. Comput. 41, theorem 3.1)."""
    assert got.shape == expected.shape, name
    bound = 4.0 * np.sqrt(inner) * UNIT_ROUNDOFF * magnitude
    error = np.abs(got - expected)
    assert np.all(error <= bound), (
        f"{_core.isa()} {name}: error {error.max():.2e}, {(error / bound).max():.2f} bounds"
    )


def check_dense(seed: int, rows: tuple[int, ...], inputs: int, units: int, use_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    x, kernel = f32(rng.normal(size=(*rows, inputs))), f32(rng.normal(size=(inputs, units)))
    bias = f32(rng.normal(size=units))
    d_y = f32(rng.normal(size=(*rows, units)))
    expected = ref.dense_forward(x, kernel, bias if use_bias else None)
    size = ref.dense_forward(np.abs(x), np.abs(kernel), np.abs(bias))
    gradients = ref.dense_backward(x, kernel, d_y)
    sizes = ref.dense_backward(np.abs(x), np.abs(kernel), np.abs(d_y))
    count = int(np.prod(rows))
    for name in _core.available_isas():
        with using_isa(name):
            weights = _core.DenseWeights(variable(kernel), variable(bias) if use_bias else None)
            assert_product(_core.dense_forward(weights, tensor(x)).numpy(), expected, size, inputs + 1, "y")
            got = _core.dense_backward(weights, tensor(x), tensor(d_y), True)
            assert (got[2] is not None) == use_bias
            for value, wanted, scale, terms in zip(got, gradients, sizes, (units, count, count), strict=True):
                if value is not None:
                    assert_product(value.numpy(), wanted, scale, terms, f"gradient {wanted.shape}")
            without = _core.dense_backward(weights, tensor(x), tensor(d_y), False)
            assert without[0] is None
            assert_bits(without[1].numpy(), got[1].numpy())


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.booleans()
)
def test_dense_random(seed: int, rows: int, inputs: int, units: int, use_bias: bool) -> None:
    check_dense(seed, (rows,), inputs, units, use_bias)


def test_dense_kernel_of_several_axes() -> None:
    """All its axes but the last count as one, as convolutions want it."""
    rng = np.random.default_rng(3)
    kernel, x, d_y = (f32(rng.normal(size=shape)) for shape in ((3, 4, 5), (2, 6, 12), (2, 6, 5)))
    flat, whole = (
        _core.DenseWeights(variable(k), variable(kernel[0, 0])) for k in (kernel.reshape(12, 5), kernel)
    )
    assert_bits(_core.dense_forward(whole, tensor(x)).numpy(), _core.dense_forward(flat, tensor(x)).numpy())
    expected = _core.dense_backward(flat, tensor(x), tensor(d_y), True)
    got = _core.dense_backward(whole, tensor(x), tensor(d_y), True)
    for a, b in zip(got, expected, strict=True):
        assert a is not None
        assert b is not None
        assert_bits(a.numpy().ravel(), b.numpy().ravel())
    assert got[1].shape == (3, 4, 5)


@pytest.mark.parametrize("units", [*range(1, 36), 63, 64, 65])
def test_dense_tails(units: int) -> None:
    check_dense(units, (1 + units % 15,), 1 + units * 5 % 23, units, True)


@pytest.mark.parametrize("rows", [(1,), (5,), (2, 3), (2, 3, 4), (0,), (3, 0)])
def test_dense_leading_axes(rows: tuple[int, ...]) -> None:
    check_dense(1, rows, 7, 9, True)


def test_dense_large() -> None:
    check_dense(2, (700,), 600, 520, True)


def test_dense_nan_stays_in_its_row(isa: str) -> None:
    rng = np.random.default_rng(3)
    x, kernel = f32(rng.normal(size=(20, 9))), f32(rng.normal(size=(9, 33)))
    weights = _core.DenseWeights(variable(kernel), None)
    clean = _core.dense_forward(weights, tensor(x)).numpy().copy()
    x[4, 2] = np.nan
    dirty = _core.dense_forward(weights, tensor(x)).numpy()
    assert np.isnan(dirty[4]).all()
    others = np.arange(20) != 4
    assert_bits(dirty[others], clean[others])


def test_dense_follows_its_variables(isa: str) -> None:
    rng = np.random.default_rng(4)
    x, kernel = tensor(rng.normal(size=(3, 5))), variable(rng.normal(size=(5, 6)))
    bias = variable(rng.normal(size=6))
    weights = _core.DenseWeights(kernel, bias)
    _core.dense_forward(weights, x)
    for target in (kernel, bias):
        target.assign(tensor(target.numpy() * 2.0))
        fresh = _core.DenseWeights(variable(kernel.numpy()), variable(bias.numpy()))
        assert_bits(_core.dense_forward(weights, x).numpy(), _core.dense_forward(fresh, x).numpy())


def test_dense_wrong_shapes() -> None:
    kernel, bias = variable(np.zeros((4, 5))), variable(np.zeros(5))
    weights = _core.DenseWeights(kernel, bias)
    x = tensor(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"\("):
        _core.dense_forward(weights, tensor(np.zeros((2, 3))))
    with pytest.raises(ValueError, match=r"\("):
        _core.dense_forward(weights, tensor(np.float32(1.0)))
    with pytest.raises(ValueError, match=r"\("):
        _core.dense_backward(weights, x, tensor(np.zeros((2, 4))), True)
    with pytest.raises(ValueError, match=r"\("):
        _core.dense_backward(weights, x, tensor(np.zeros((3, 5))), True)
    for arguments in ((variable(np.zeros(4)), bias), (kernel, variable(np.zeros(4)))):
        with pytest.raises(ValueError, match=r"\("):
            _core.DenseWeights(*arguments)


def test_wrong_dtypes() -> None:
    """Never taken for float32: a wrong dtype is refused, in every place."""
    wide, x = tensor(np.zeros((2, 2)), "float64"), tensor(np.zeros((2, 2)))
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.DenseWeights(_core.Variable(wide), None)
    weights = _core.DenseWeights(_core.Variable(x), None)
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.dense_forward(weights, wide)
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.dense_backward(weights, wide, x, True)
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.dense_backward(weights, x, wide, True)
    ids = tensor(np.zeros(2), "int32")
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.embedding_forward(_core.Variable(wide), ids)
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.embedding_backward(ids, wide, 5)
    with pytest.raises((TypeError, ValueError), match="int32"):
        _core.embedding_forward(_core.Variable(x), tensor(np.zeros(2), "int64"))


# --- Embedding: a copy, and a sum in row order ----------------------------------------------------


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 70), st.integers(1, 12), st.integers(1, 40)
)
def test_embedding_random(seed: int, vocabulary: int, width: int, batch: int, time: int) -> None:
    rng = np.random.default_rng(seed)
    table = f32(rng.normal(size=(vocabulary, width)))
    ids = rng.integers(0, vocabulary, size=(batch, time)).astype(np.int32)
    d_y = f32(rng.normal(size=(batch, time, width)))
    expected = ref.embedding_backward(ids, d_y, vocabulary)
    size = ref.embedding_backward(ids, np.abs(d_y), vocabulary)
    for name in _core.available_isas():
        with using_isa(name):
            rows = _core.embedding_forward(variable(table), tensor(ids, "int32")).numpy()
            assert_bits(rows, table[ids], name)
            got = _core.embedding_backward(tensor(ids, "int32"), tensor(d_y), vocabulary).numpy()
            assert_product(got, expected, size, batch * time, "gradient of the table")


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0), (0,), (2, 3, 4)])
def test_embedding_shapes_of_ids(isa: str, shape: tuple[int, ...]) -> None:
    table = f32(np.arange(20.0).reshape(5, 4))
    ids = np.full(shape, 3, np.int32)
    assert_bits(_core.embedding_forward(variable(table), tensor(ids, "int32")).numpy(), table[ids])
    d_table = _core.embedding_backward(tensor(ids, "int32"), tensor(np.ones((*shape, 4))), 5).numpy()
    expected = np.zeros((5, 4), np.float32)
    expected[3] = ids.size
    np.testing.assert_array_equal(d_table, expected)


@pytest.mark.parametrize("wrong", [5, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("size", [4, 5000])
def test_embedding_id_out_of_range(isa: str, wrong: int, size: int) -> None:
    """The first one is named, wherever it stands."""
    ids = np.zeros(size, np.int32)
    ids[size // 2], ids[size - 1] = wrong, 99
    with pytest.raises(ValueError, match=rf"(?<!\d){wrong}(?!\d)"):
        _core.embedding_forward(variable(np.zeros((5, 3))), tensor(ids, "int32"))
    with pytest.raises(ValueError, match=rf"(?<!\d){wrong}(?!\d)"):
        _core.embedding_backward(tensor(ids, "int32"), tensor(np.zeros((size, 3))), 5)


def test_embedding_wrong_arguments() -> None:
    ids = tensor(np.zeros(4), "int32")
    with pytest.raises(ValueError, match=r"\("):
        _core.embedding_forward(variable(np.zeros(5)), ids)
    with pytest.raises(ValueError, match=r"\("):
        _core.embedding_backward(ids, tensor(np.zeros((3, 2))), 5)
    with pytest.raises((TypeError, ValueError)):
        _core.embedding_forward(variable(np.zeros((5, 2))), tensor(np.zeros(4)))


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(0, 9), st.integers(0, 40))
def test_embedding_distinct_random(seed: int, vocabulary: int, batch: int, time: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, (batch, time)).astype(np.int32)
    table = f32(rng.normal(size=(vocabulary, 3)))
    found = _core.embedding_distinct(variable(table), tensor(ids, "int32"))
    count = len(np.unique(ids))
    if 2 * count > ids.size or count == 0:
        assert found is None
        return
    assert found is not None
    rows, distinct, index = (t.numpy() for t in found)
    assert len(distinct) == count
    np.testing.assert_array_equal(distinct[index], ids)
    first = np.unique(ids, return_index=True)[1]
    np.testing.assert_array_equal(distinct, ids.ravel()[np.sort(first)])  # in order of appearance
    assert_bits(rows, table[distinct])


def test_embedding_distinct_wrong_ids() -> None:
    with pytest.raises(ValueError, match=r"input holds 5 at index \(3,\)"):
        _core.embedding_distinct(variable(np.zeros((5, 3))), tensor(np.array([0, 0, 0, 5]), "int32"))
