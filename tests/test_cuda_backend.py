"""The operations of the CUDA backend: the recurrent ones against the yardstick, the others against the CPU's,
which are held against it elsewhere. Where there is no GPU, its drivers and kernels run on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_native as ln
from cuda_support import open_for_tests
from lstm_native import _core, cuda
from native_support import (
    RecurrentCase,
    f32,
    indexed,
    recurrent_case,
    recurrent_masked,
    tensor,
    varied_case,
)
from test_recurrent_native import assert_forward, assert_gradients

Array = npt.NDArray[Any]

# Two float32 computations of the same thing in another order, with another library: a few units in the last
# place (6e-8) of sums of up to a thousand terms of order 1, sqrt(1000) * 6e-8 = 2e-6 in the extreme.
TOLERANCE = 4e-6


@pytest.fixture(scope="module", autouse=True)
def device(tmp_path_factory: pytest.TempPathFactory) -> None:
    open_for_tests(tmp_path_factory.mktemp("cuda"))


def there(x: Array, dtype: str = "float32") -> _core.Tensor:
    return tensor(x, dtype).to("cuda")


def variable(x: Array, where: str) -> _core.Variable:
    made = _core.Variable(tensor(x))
    _core.move_variables([made], where)
    return made


def numpy_of(result: Any) -> list[Array | None]:
    """Tensors, which must lie on the device or be here for a CPU call, and numbers, as arrays."""
    results = result if isinstance(result, tuple) else (result,)
    return [
        r.numpy() if isinstance(r, _core.Tensor) else None if r is None else np.asarray(r) for r in results
    ]


def assert_same(call: Callable[[Callable[..., _core.Tensor], str], Any]) -> None:
    """Runs `call(tensor, device)` on both devices and compares."""
    expected = numpy_of(call(tensor, "cpu"))
    result = call(there, "cuda")
    got = numpy_of(result)
    for r in result if isinstance(result, tuple) else (result,):
        assert not isinstance(r, _core.Tensor) or r.device == "cuda"
    for mine, other in zip(got, expected, strict=True):
        if other is None:
            assert mine is None
            continue
        assert mine is not None
        assert mine.shape == other.shape
        finite = np.abs(other[np.isfinite(other)])
        np.testing.assert_allclose(
            mine, other, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, finite.max(initial=0.0))
        )


class OnDevice(RecurrentCase):
    """A call whose weights lie on the device; its other arrays come from the host."""

    def weights(self) -> _core.RecurrentWeights:
        arrays = (self.kernel, self.recurrent, self.bias)
        made = [None if a is None else variable(a, "cuda") for a in arrays]
        return _core.RecurrentWeights(self.cell, *made, self.activation, self.recurrent_activation)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_before", "simple_rnn"])
def test_recurrent(cell: str, seed: int) -> None:
    others = {}
    if seed % 3 == 1:
        others = {"activation": ["relu", "softsign"][seed % 2], "recurrent_activation": "hard_sigmoid"}
    case = OnDevice(**vars(varied_case(cell, seed, (6, 14, 9, 40), **others)))
    trace = case.reference()
    weights = case.weights()
    saved = assert_forward(case, trace, weights)
    assert_gradients(case, case.backward(weights, saved), case.reference_gradients(trace))


@pytest.mark.parametrize("units", [64, 65, 128, 129])
@pytest.mark.parametrize("batch", [1, 3, 16, 17])
def test_lstm_in_one_launch_and_step_by_step(units: int, batch: int) -> None:
    """Up to 128 units, small batches run all steps in one launch (csrc/cuda/planner.h)."""
    case = recurrent_case(units, batch, 5, 3, units, mask="holes", reset=True, go_backwards=batch == 3)
    if batch == 16:
        case = recurrent_masked(case)
    if batch == 3:
        case = indexed(case, 7)
    case = OnDevice(**vars(case))
    trace = case.reference()
    weights = case.weights()
    saved = assert_forward(case, trace, weights)
    assert_gradients(case, case.backward(weights, saved), case.reference_gradients(trace))


def test_recurrent_outputs_stay_on_the_device_and_repeat() -> None:
    case = OnDevice(**vars(recurrent_case(0, 3, 5, 4, 6)))
    weights = case.weights()
    results = []
    for _ in range(2):
        output, h, c, saved = _core.recurrent_forward(
            weights, there(case.x), None, None, None, None, True, False, False, True
        )
        assert saved is not None
        gradients = _core.recurrent_backward(weights, saved, there(case.d_output), None, None, True, True)
        assert all(t is None or t.device == "cuda" for t in (output, h, c, *gradients))
        results.append(numpy_of((output, h, c, *gradients)))
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)


def test_weights_that_move_between_forward_and_backward() -> None:
    case = recurrent_case(1, 3, 5, 4, 6)
    variables = [variable(a, "cpu") for a in (case.kernel, case.recurrent, case.bias) if a is not None]
    weights = _core.RecurrentWeights("lstm", *variables, "tanh", "sigmoid")
    for first, second in (("cpu", "cuda"), ("cuda", "cpu")):
        _core.move_variables(variables, first)
        saved = case.forward(weights, training=True)[3]
        _core.move_variables(variables, second)
        with pytest.raises(RuntimeError, match=f"the weights have moved to {second} since this forward pass"):
            case.backward(weights, saved)
        _core.move_variables(variables, first)
        case.backward(weights, saved)


def test_precision_and_synchronize() -> None:
    case = OnDevice(**vars(recurrent_case(0, 3, 5, 4, 6)))
    exact = case.gradients()
    cuda.set_precision("tf32")
    try:
        for name, gradient in case.gradients().items():
            expected = exact[name]
            assert gradient is not None
            assert expected is not None
            # 11 bits: each product is right to 2^-11, gradients of some steps to a few times that.
            assert np.linalg.norm(gradient - expected) <= 5e-3 * np.linalg.norm(expected)
    finally:
        cuda.set_precision("float32")
    cuda.synchronize()
    for name, gradient in case.gradients().items():
        assert np.array_equal(gradient, exact[name])  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
def test_dense(bias: bool) -> None:
    rng = np.random.default_rng(0)
    x, kernel, b, d_y = (f32(rng.normal(size=s)) for s in ((3, 4, 50), (50, 7), (7,), (3, 4, 7)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        weights = _core.DenseWeights(variable(kernel, device), variable(b, device) if bias else None)
        return _core.dense_forward(weights, array(x)), *_core.dense_backward(
            weights, array(x), array(d_y), True
        )

    assert_same(call)


def test_embedding() -> None:
    rng = np.random.default_rng(0)
    table, ids = f32(rng.normal(size=(11, 5))), rng.integers(0, 11, (4, 9)).astype(np.int32)
    d_y = f32(rng.normal(size=(4, 9, 5)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        rows = _core.embedding_forward(variable(table, device), array(ids, "int32"))
        return rows, _core.embedding_backward(array(ids, "int32"), array(d_y), 11)

    assert_same(call)
    for wrong in (-1, 11):
        with pytest.raises(ValueError, match=f"input holds {wrong} at index \\(1,\\)"):
            _core.embedding_forward(variable(table, "cuda"), there(np.array([0, wrong]), "int32"))


@pytest.mark.parametrize("name", _core.activation_names())
def test_activations(name: str) -> None:
    rng = np.random.default_rng(0)
    x, d_y = f32(rng.normal(size=(7, 45)) * 3), f32(rng.normal(size=(7, 45)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        y = _core.activation_forward(name, array(x))
        return y, _core.activation_backward(name, array(x), y, array(d_y))

    assert_same(call)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "softmax", "log_softmax", "sparsemax"])
def test_nan_and_infinity_pass(name: str) -> None:
    x = f32([[1.0, np.nan, 2.0], [np.inf, 0.0, 1.0], [-np.inf, 0.0, 1.0]])
    with np.errstate(invalid="ignore"):
        assert_same(lambda array, device: _core.activation_forward(name, array(x)))


LOSSES = [
    ("binary_crossentropy", 0.1),
    ("categorical_crossentropy", 0.1),
    ("sparse_categorical_crossentropy", 0.0),
    ("mean_squared_error", 0.0),
    ("mean_absolute_error", 0.0),
    ("huber", 0.7),
    ("log_cosh", 0.0),
    ("kl_divergence", 0.0),
]


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize(("name", "parameter"), LOSSES)
@pytest.mark.parametrize("columns", [1, 40])
def test_losses(name: str, parameter: float, from_logits: bool, columns: int) -> None:
    rng = np.random.default_rng(columns)
    sparse = name.startswith("sparse")
    y_true = rng.integers(0, columns, 30).astype(np.int32) if sparse else f32(rng.random((30, columns)))
    y_pred = f32(rng.normal(size=(30, columns)) * 4 if from_logits else rng.random((30, columns)))
    weights = f32(rng.random(30))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        labels = array(y_true, "int32" if sparse else "float32")
        return _core.loss(name, labels, array(y_pred), array(weights), from_logits, parameter, True)

    assert_same(call)
    if sparse:
        labels = there(np.full(30, columns), "int32")
        with pytest.raises(ValueError, match=f"y_true holds class {columns} in row 0"):
            _core.loss(name, labels, there(y_pred), None, from_logits, 0.0, True)


@pytest.mark.parametrize("rule", ["adam", "amsgrad", "sgd", "momentum", "nesterov", "rmsprop", "centered"])
def test_optimizers(rule: str) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (5,), (2, 2, 2)] * 12  # more than a launch takes
    gradients = [f32(rng.normal(size=s)) for s in shapes]
    starts = [f32(rng.normal(size=s)) for s in shapes]

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        weights = [variable(a, device) for a in starts]
        slots = [[variable(np.abs(a), device) for a in starts] for _ in range(3)]
        given = [tensor(g) for g in gradients]  # from the host: they follow the variables
        decays = [0.01 * (i % 2) for i in range(len(shapes))]
        for _ in range(3):
            if rule in ("adam", "amsgrad"):
                largest = slots[2] if rule == "amsgrad" else None
                _core.adam_step(weights, given, slots[0], slots[1], largest, 0.01, 0.9, 0.999, 1e-7, decays)
            elif rule in ("rmsprop", "centered"):
                averages = slots[2] if rule == "centered" else None
                _core.rmsprop_step(weights, given, slots[0], slots[1], averages, 0.01, 0.9, 0.5, 1e-7, decays)
            else:
                velocities = None if rule == "sgd" else slots[0]
                _core.sgd_step(weights, given, velocities, 0.01, 0.9, rule == "nesterov", decays)
        return tuple(v.numpy() for group in (weights, *slots) for v in group)

    assert_same(call)


def test_arithmetic() -> None:
    rng = np.random.default_rng(0)
    a, b = f32(rng.normal(size=(50, 400))), f32(rng.normal(size=(50, 400)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        target = array(a).copy()
        _core.add_(target, array(b))
        _core.scale_(target, 0.7)
        _core.clip_(target, -0.5, 0.6)
        product = _core.multiply(array(a), tensor(b))
        norms = _core.squared_norms([array(a), array(b)])
        return target, product, *norms, *_core.penalty(array(a), 0.1, 0.2, True)

    assert_same(call)


@pytest.mark.parametrize("mode", ["concat", "sum", "ave", "mul"])
def test_merge(mode: str) -> None:
    rng = np.random.default_rng(0)
    forward, backward = f32(rng.normal(size=(3, 4, 5))), f32(rng.normal(size=(3, 4, 5)))
    d = f32(rng.normal(size=(3, 4, 10 if mode == "concat" else 5)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        merged = _core.merge_forward(mode, array(forward), array(backward))
        return merged, *_core.merge_backward(mode, array(d), 5, array(forward), array(backward))

    assert_same(call)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_layer_norm(rms: bool, plain: bool) -> None:
    rng = np.random.default_rng(0)
    x, gamma, beta, d = (f32(rng.normal(size=s)) for s in ((40, 33), (33,), (33,), (40, 33)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        scale, shift = (None, None) if plain else (variable(gamma, device), variable(beta, device))
        weights = _core.LayerNormWeights(scale, shift, 1e-3, rms)
        y, mean, inverse = _core.layer_norm_forward(weights, array(x), 33, True)
        assert mean is not None
        assert inverse is not None
        gradients = _core.layer_norm_backward(weights, array(x), 33, mean, inverse, array(d), True)
        return y, mean, inverse, *gradients

    assert_same(call)


@pytest.mark.parametrize("scaled", [False, True])
def test_additive_scores(scaled: bool) -> None:
    rng = np.random.default_rng(0)
    query, key, scale, d = (f32(rng.normal(size=s)) for s in ((3, 4, 6), (3, 5, 6), (6,), (3, 4, 5)))

    def call(array: Callable[..., _core.Tensor], device: str) -> Any:
        factor = array(scale) if scaled else None
        scores = _core.additive_scores_forward(array(query), array(key), factor)
        return scores, *_core.additive_scores_backward(array(query), array(key), factor, array(d))

    assert_same(call)


def test_tensors() -> None:
    x = f32(np.arange(12).reshape(3, 4))
    t = there(x)
    assert (t.device, t.shape, t.dtype) == ("cuda", (3, 4), "float32")
    assert t.to("cuda") is t
    assert np.array_equal(t.numpy(), x)
    assert np.array_equal(np.asarray(t), x)
    assert np.array_equal(t.reshape((2, 6)).copy().to("cpu").numpy(), x.reshape(2, 6))
    assert np.array_equal(_core.as_tensor(t, "int32").numpy(), x)
    assert _core.as_tensor(t, "float32") is t
    assert t.__dlpack_device__() == (2, 0)
    with pytest.raises(BufferError):
        memoryview(t)  # type: ignore[arg-type]
    empty = there(np.zeros((0, 3)))
    assert empty.numpy().shape == (0, 3)


class Foreign:
    """An array of another library on the device."""

    def __init__(self, tensor: _core.Tensor) -> None:
        self.tensor = tensor
        self.streams: list[Any] = []

    def __dlpack__(self, stream: Any = None, **options: Any) -> Any:
        self.streams.append(stream)
        return self.tensor.__dlpack__(stream=-1, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


def test_arrays_that_other_libraries_share() -> None:
    x = f32(np.random.default_rng(0).normal(size=(2, 4, 3)))
    t = there(x)
    foreign = Foreign(t)
    taken = _core.as_tensor(foreign, "float32")
    assert taken.device == "cuda"
    assert np.array_equal(taken.numpy(), x)
    _core.scale_(taken, 2.0)  # the same memory
    assert np.array_equal(t.numpy(), 2 * x)
    for stream in (None, 1, 2, -1):
        assert "dltensor" in repr(t.__dlpack__(stream=stream))
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(1, 0), dl_device=(2, 0)))
    with pytest.raises(BufferError, match="expected CUDA's, \\(2, 0\\)"):
        t.__dlpack__(dl_device=(1, 0))

    model = ln.Sequential([ln.Input((4, 3)), ln.LSTM(5, return_state=True)]).to("cuda")
    outputs = model(foreign)
    assert all(isinstance(o, _core.Tensor) and o.device == "cuda" for o in outputs)
    plain = model(2 * x)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(outputs, plain, strict=True))


def test_variables() -> None:
    v = variable(f32([1, 2, 3]), "cpu")
    version = v.version
    _core.move_variables([v, v], "cuda")
    assert v.device == "cuda"
    assert v.version > version
    v.assign(tensor([4, 5, 6]))
    assert v.numpy().tolist() == [4, 5, 6]
    v.assign(there(f32([7, 8, 9])))
    _core.move_variables([v], "cpu")
    v.assign(there(f32([1, 0, 1])))
    assert v.numpy().tolist() == [1, 0, 1]
