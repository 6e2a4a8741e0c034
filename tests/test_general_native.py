"""General recurrent cells (peepholes, clip, coupled gates, projection, parametric activations), natively:
against the yardstick, on every instruction set, forward and every gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import reference_general as gen
from lstm_native import _core
from native_support import (
    MASKS,
    Array,
    assert_bits,
    f32,
    optional_tensor,
    random_mask,
    tensor,
    using_isa,
    variable,
)
from test_reference import assert_gradient

# As in test_recurrent_native.py, whose derivation holds: the cells do the same sums. Activations without a
# bound and peepholes let states grow; errors are compared with the largest value.
FORWARD_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 3e-5

CELLS = ("lstm", "simple_rnn", "gru", "gru_before")
FUNCTIONS: tuple[gen.Function, ...] = (
    "tanh",
    "sigmoid",
    "relu",
    "softsign",
    "softplus",
    ("affine", 0.4, 0.1),
    ("leaky_relu", 0.03, 0.0),
    ("thresholded_relu", 0.2, 0.0),
    ("scaled_tanh", 1.2, 0.7),
    ("hard_sigmoid", 0.2, 0.5),
    ("elu", 0.8, 0.0),
)
GATES: tuple[gen.Function, ...] = (
    "sigmoid",
    ("hard_sigmoid", 0.2, 0.5),
    ("scaled_tanh", 0.6, 1.0),
    "hard_sigmoid",
)


@dataclass(frozen=True)
class Case:
    """Arguments of one call, forward and backward."""

    cell: str
    x: Array
    kernel: Array
    recurrent: Array
    bias: Array | None
    options: gen.Options
    d_output: Array
    d_h: Array
    d_c: Array | None
    arrays: dict[str, Array | None] = field(default_factory=dict)  # mask, reset, h0, c0, recurrent_mask
    flags: dict[str, bool] = field(default_factory=dict)
    checkpoint_steps: int = 0

    def __repr__(self) -> str:
        given = [name for name, array in self.arrays.items() if array is not None]
        options = {k: v if not isinstance(v, np.ndarray) else v.shape for k, v in vars(self.options).items()}
        return f"<{self.cell} x={self.x.shape} h={len(self.recurrent)} {options} {given} {self.flags}>"

    def reference(self) -> tuple[Any, dict[str, Array | None]]:
        trace = gen.general_forward(
            self.x,
            self.kernel,
            self.recurrent,
            self.bias,
            self.options,
            cell=self.cell,
            **self.arrays,
            **self.flags,
        )
        gradients = gen.general_backward(trace, self.d_output, self.d_h, self.d_c)
        if self.cell != "lstm":
            gradients["c0"] = gradients["peepholes"] = None
        if self.options.peepholes is None:
            gradients["peepholes"] = None
        return trace, gradients

    def weights(self) -> _core.RecurrentWeights:
        o = self.options
        return _core.RecurrentWeights.general(
            self.cell,
            variable(self.kernel),
            variable(self.recurrent),
            None if self.bias is None else variable(self.bias),
            o.activation,
            o.recurrent_activation,
            o.output_activation,
            peepholes=None if o.peepholes is None else variable(o.peepholes),
            projection=None if o.projection is None else variable(o.projection),
            coupled=o.coupled,
            clip=o.clip,
        )

    def forward(self, weights: _core.RecurrentWeights, training: bool = False) -> Any:
        a, f = self.arrays, self.flags
        return _core.recurrent_forward(
            weights,
            tensor(self.x),
            optional_tensor(a["mask"], "bool"),
            optional_tensor(a["reset"], "bool"),
            optional_tensor(a["h0"]),
            optional_tensor(a["c0"]),
            f["return_sequences"],
            f["go_backwards"],
            f["zero_output_for_mask"],
            training,
            checkpoint_steps=self.checkpoint_steps if training else 0,
            recurrent_mask=optional_tensor(a["recurrent_mask"]),
        )

    def native(self) -> dict[str, Array | None]:
        """Outputs and gradients of a training call."""
        weights = self.weights()
        output, h, c, saved = self.forward(weights, training=True)
        assert saved is not None
        d = (optional_tensor(g) for g in (self.d_output, self.d_h, self.d_c))
        gradients = _core.general_backward(weights, saved, *d, True, True)
        names = ("inputs", "kernel", "recurrent", "bias", "h0", "c0", "peepholes", "projection")
        tensors = dict(zip(("output", "h", "c", *names), (output, h, c, *gradients), strict=True))
        return {name: None if value is None else value.numpy() for name, value in tensors.items()}


def general_case(
    seed: int,
    cell: str = "lstm",
    batch: int = 3,
    time: int = 4,
    inputs: int = 3,
    units: int = 5,
    *,
    projection: int | None = None,
    peepholes: bool = False,
    coupled: bool = False,
    mask: str = "none",
    reset: bool = False,
    initial: bool = True,
    use_bias: bool = True,
    recurrent_mask: bool = False,
    return_sequences: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    checkpoint_steps: int = 0,
    **options: Any,
) -> Case:
    """A call with inputs of order 1 and weights of the size that Keras draws."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return f32(rng.normal(size=shape))

    gates = {"lstm": 3 if coupled else 4, "simple_rnn": 1}.get(cell, 3)
    columns, out = gates * units, projection or units
    outputs = (batch, time, out) if return_sequences else (batch, out)
    bias_shape = (2, columns) if cell == "gru" else (columns,)
    is_lstm = cell == "lstm"
    return Case(
        cell=cell,
        x=normal(batch, time, inputs),
        kernel=normal(inputs, columns) * f32(np.sqrt(2.0 / (inputs + columns))),
        recurrent=normal(out, columns) * f32(0.8 * np.sqrt(1.0 / out)),
        bias=normal(*bias_shape) * f32(0.3) if use_bias else None,
        options=gen.Options(
            peepholes=normal((gates - 1) * units) * f32(0.3) if peepholes else None,
            projection=normal(units, out) * f32(np.sqrt(1.0 / units)) if projection else None,
            coupled=coupled,
            **options,
        ),
        d_output=normal(*outputs),
        d_h=normal(batch, out),
        d_c=normal(batch, units) if is_lstm else None,
        arrays={
            "mask": random_mask(rng, mask, batch, time),
            "reset": rng.random((batch, time)) < 0.2 if reset else None,
            "h0": np.tanh(normal(batch, out)) if initial else None,
            "c0": normal(batch, units) if initial and is_lstm else None,
            "recurrent_mask": f32((rng.random((batch, out)) >= 0.3) / 0.7) if recurrent_mask else None,
        },
        flags={
            "return_sequences": return_sequences,
            "go_backwards": go_backwards,
            "zero_output_for_mask": zero_output_for_mask,
        },
        checkpoint_steps=checkpoint_steps,
    )


def assert_as_reference(case: Case) -> dict[str, Array | None]:
    trace, expected = case.reference()
    native = case.native()
    inference = case.forward(case.weights())
    for name, same in zip(("output", "h", "c"), inference[:3], strict=True):
        got, exact = native[name], getattr(trace, name)
        if name == "c" and case.cell != "lstm":
            assert got is same is None
            continue
        assert got is not None
        assert got.shape == exact.shape, name
        bound = FORWARD_TOLERANCE * max(1.0, float(np.abs(exact).max(initial=0.0)))
        assert np.abs(got - exact).max(initial=0.0) <= bound, f"{_core.isa()} {name}"
        assert_bits(same.numpy(), got, f"{name} of training and of inference")
    upstream = [d for d in (case.d_output, case.d_h, case.d_c) if d is not None]
    floor = 1e-6 * float(np.sqrt(sum(np.square(d).sum() for d in upstream)))
    for name, exact_gradient in expected.items():
        got = native[name]
        if exact_gradient is None:
            assert got is None, name
            continue
        assert got is not None, name
        assert got.shape == exact_gradient.shape, name
        error = float(np.linalg.norm(got - exact_gradient))
        assert error <= GRADIENT_TOLERANCE * np.linalg.norm(exact_gradient) + floor, f"{_core.isa()} d_{name}"
    return native


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "peepholes": {"peepholes": True},
    "clip": {"clip": 0.4},
    "coupled": {"coupled": True},
    "projection": {"projection": 3},
    "wider_projection": {"projection": 9},
    "all": {"peepholes": True, "clip": 0.9, "coupled": True, "projection": 2},
    "three_functions": {
        "activation": ("scaled_tanh", 1.2, 0.7),
        "recurrent_activation": ("hard_sigmoid", 0.2, 0.5),
        "output_activation": "softsign",
        "peepholes": True,
    },
    "masked": {"peepholes": True, "projection": 3, "mask": "holes", "reset": True},
    "masked_last": {"projection": 3, "mask": "right", "return_sequences": False},
    "zero_output": {"peepholes": True, "mask": "holes", "zero_output_for_mask": True},
    "backwards": {"peepholes": True, "projection": 3, "go_backwards": True, "mask": "left"},
    "recurrent_mask": {"projection": 3, "recurrent_mask": True, "reset": True},
    "bare": {"use_bias": False, "initial": False, "peepholes": True},
}
OTHER_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "clip": {"clip": 0.4},
    "functions": {
        "activation": ("leaky_relu", 0.1, 0.0),
        "recurrent_activation": ("hard_sigmoid", 0.2, 0.5),
    },
    "masked": {"mask": "holes", "reset": True, "clip": 1.0},
    "masked_last": {"mask": "right", "return_sequences": False},
    "zero_output": {"mask": "holes", "zero_output_for_mask": True},
    "backwards": {"go_backwards": True, "mask": "left"},
    "recurrent_mask": {"recurrent_mask": True, "reset": True},
    "bare": {"use_bias": False, "initial": False},
}
ALL_CASES = [("lstm", name, case) for name, case in CASES.items()] + [
    (cell, name, case) for cell in CELLS[1:] for name, case in OTHER_CASES.items()
]
IDS = [f"{cell}-{name}" for cell, name, _ in ALL_CASES]


@pytest.mark.parametrize(("cell", "name", "options"), ALL_CASES, ids=IDS)
def test_yardstick(cell: str, name: str, options: dict[str, Any]) -> None:
    """Every gradient of the yardstick against central differences."""
    case = general_case(
        7, cell, 2, 3, 2, 3, **{**options, **({"projection": 2} if "projection" in options else {})}
    )
    o = case.options
    doubles = {
        name: None if array is None else np.array(array, np.float64)
        for name, array in (
            ("inputs", case.x),
            ("kernel", case.kernel),
            ("recurrent", case.recurrent),
            ("bias", case.bias),
            ("h0", case.arrays["h0"]),
            ("c0", case.arrays["c0"]),
            ("peepholes", o.peepholes),
            ("projection", o.projection),
        )
    }
    in_double = replace(
        case,
        x=doubles["inputs"],
        kernel=doubles["kernel"],
        recurrent=doubles["recurrent"],
        bias=doubles["bias"],
        options=replace(o, peepholes=doubles["peepholes"], projection=doubles["projection"]),
        arrays={**case.arrays, "h0": doubles["h0"], "c0": doubles["c0"]},
    )
    gradients = in_double.reference()[1]

    def loss() -> float:
        trace = in_double.reference()[0]
        total = float(np.sum(trace.output * case.d_output) + np.sum(trace.h * case.d_h))
        return total if case.d_c is None else total + float(np.sum(trace.c * case.d_c))

    for what, array in doubles.items():
        if array is not None:
            got = gradients[what]
            assert got is not None
            assert_gradient(got, loss, array)


@pytest.mark.parametrize(("cell", "name", "options"), ALL_CASES, ids=IDS)
def test_cells(isa: str, cell: str, name: str, options: dict[str, Any]) -> None:
    """Shapes that fill no vector, and ones that need several chunks and tiles."""
    assert_as_reference(general_case(1, cell, **options))
    assert_as_reference(general_case(2, cell, 27, 21, 7, 18, **options))


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=120, deadline=None)
def test_random_configurations(data: st.DataObject) -> None:
    draw = data.draw
    cell = draw(st.sampled_from(CELLS))
    is_lstm = cell == "lstm"
    size = st.integers(1, 20)
    options: dict[str, Any] = {
        "batch": draw(size),
        "time": draw(st.integers(1, 12)),
        "inputs": draw(size),
        "units": draw(size),
        "projection": draw(st.none() | size) if is_lstm else None,
        "peepholes": is_lstm and draw(st.booleans()),
        "coupled": is_lstm and draw(st.booleans()),
        "mask": draw(st.sampled_from(MASKS)),
        "clip": draw(st.none() | st.floats(0.125, 3.0, width=32)),
        "activation": draw(st.sampled_from(FUNCTIONS)),
        "recurrent_activation": draw(st.sampled_from(GATES)),
        "output_activation": draw(st.sampled_from(FUNCTIONS[:1] + FUNCTIONS[5:])),
        "checkpoint_steps": draw(st.integers(0, 4)),
    }
    flags = ("reset", "initial", "use_bias", "recurrent_mask", "return_sequences", "go_backwards")
    for flag in (*flags, "zero_output_for_mask"):
        options[flag] = draw(st.booleans())
    case = general_case(draw(st.integers(0, 2**31)), cell, **options)
    hypothesis.assume(away_from_kinks(case))
    with using_isa(draw(st.sampled_from(_core.available_isas()))):
        assert_as_reference(case)


def away_from_kinks(case: Case) -> bool:
    """Whether the gradients change little with the inputs: no sum lies near a kink, and no state explodes."""
    trace, gradients = case.reference()
    near = replace(case, x=case.x.astype(np.float64) * (1.0 + 3e-6))
    moved = near.reference()[1]
    if not np.abs(trace.h).max(initial=0.0) < 50.0:
        return False
    return all(
        exact is None or np.linalg.norm(moved[name] - exact) <= 1e-3 * np.linalg.norm(exact) + 1e-3
        for name, exact in gradients.items()
    )


@pytest.mark.parametrize("cell", CELLS)
def test_plain_options_are_the_plain_cell(cell: str) -> None:
    """Without options the general path computes what the other one does, to rounding."""
    case = general_case(3, cell, 9, 30, 11, 20, mask="holes", reset=True)
    bias = None if case.bias is None else variable(case.bias)
    plain = _core.RecurrentWeights(
        cell, variable(case.kernel), variable(case.recurrent), bias, "tanh", "sigmoid"
    )
    got, expected = case.forward(case.weights()), case.forward(plain)
    for a, b in zip(got[:3], expected[:3], strict=True):
        if b is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_bits_do_not_depend_on_threads(isa: str, threads: Callable[[int], None], cell: str) -> None:
    options: dict[str, Any] = {"peepholes": True, "projection": 33} if cell == "lstm" else {}
    case = general_case(5, cell, 40, 30, 17, 50, mask="holes", reset=True, clip=2.0, **options)
    results = []
    for n in (1, 2, 5):
        threads(n)
        results.append(case.native())
    for other in results[1:]:
        for name, value in results[0].items():
            if value is not None:
                assert_bits(other[name], value, name)


def test_bits_do_not_depend_on_the_batch() -> None:
    case = general_case(6, "lstm", 23, 9, 5, 19, peepholes=True, projection=7, mask="holes")
    whole = case.forward(case.weights())[0].numpy()
    one = replace(
        case,
        x=case.x[4:5],
        arrays={name: None if array is None else array[4:5] for name, array in case.arrays.items()},
    )
    assert_bits(one.forward(one.weights())[0].numpy(), whole[4:5])


def test_checkpoints_change_no_bit_of_the_outputs() -> None:
    case = general_case(8, "lstm", 9, 25, 5, 19, peepholes=True, projection=7, mask="holes", reset=True)
    all_kept, some_kept = case.native(), replace(case, checkpoint_steps=4).native()
    for name in ("output", "h", "c"):
        assert_bits(some_kept[name], all_kept[name], name)


def test_masked_steps_may_hold_anything() -> None:
    """NaN in the inputs of masked steps reaches no output and no gradient of a state."""
    case = general_case(9, "lstm", 5, 6, 3, 7, peepholes=True, projection=3, mask="holes")
    x = np.where(case.arrays["mask"][..., None], case.x, np.nan)
    assert_bits(replace(case, x=f32(x)).native()["output"], case.native()["output"])
    assert_bits(replace(case, x=f32(x)).native()["h0"], case.native()["h0"])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("emitted", [True, False])
def test_steps_that_no_row_takes_are_not_computed(isa: str, cell: str, emitted: bool) -> None:
    """NaN in inputs behind the last step of any row, and in chunks before the first one, reaches nothing."""
    options: dict[str, Any] = {"peepholes": True, "projection": 5} if cell == "lstm" else {}
    case = general_case(10, cell, 2, 150, 3, 7, zero_output_for_mask=not emitted, **options)
    mask = np.zeros((2, 150), bool)
    mask[0, 100:110] = mask[1, 104:120] = True
    case = replace(case, arrays={**case.arrays, "mask": mask})
    x = case.x.copy()
    x[:, :96] = x[:, 120:] = np.nan
    expected, got = assert_as_reference(case), replace(case, x=x).native()
    for name, value in expected.items():
        if value is not None:
            assert_bits(got[name], value, name)


def test_empty_batch() -> None:
    case = general_case(10, "lstm", 0, 4, 3, 5, peepholes=True, projection=2)
    native = case.native()
    assert native["output"].shape == (0, 4, 2)
    assert native["projection"].shape == (5, 2)
    assert not native["projection"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peepholes": np.zeros(7)}, r"LSTM: peepholes has shape \(7,\), expected \(15,\)"),
        (
            {"projection": np.zeros((5, 3))},
            r"LSTM: projection has shape \(5, 3\) and recurrent_kernel \(5, 20\)",
        ),
        ({"clip": 0.0}, "LSTM: clip is 0, expected a number above 0"),
        ({"clip": float("nan")}, "LSTM: clip is nan, expected a number above 0"),
        ({"coupled": True}, r"LSTM: recurrent_kernel has shape \(5, 20\), expected \(units, 3 \* units\)"),
        ({"activation": ("cube", 1.0, 1.0)}, "LSTM: activation 'cube' with parameters is not known"),
        ({"output_activation": "softmax"}, "LSTM: output_activation 'softmax' mixes the units of a step"),
        ({"recurrent_activation": "cube"}, "LSTM: recurrent_activation 'cube' is not known"),
    ],
)
def test_wrong_weights(change: dict[str, Any], message: str) -> None:
    case = general_case(11)
    with pytest.raises(ValueError, match=message):
        replace(case, options=replace(case.options, **change)).weights()


def test_wrong_calls() -> None:
    gru = general_case(12, "gru")
    with pytest.raises(
        ValueError, match="GRU: peepholes, a projection and coupled gates are those of the LSTM"
    ):
        replace(gru, options=replace(gru.options, peepholes=np.zeros(10))).weights()
    case = general_case(12, projection=2)
    wide = {**case.arrays, "h0": np.zeros((3, 5))}
    with pytest.raises(ValueError, match=r"initial_state h has shape \(3, 5\).*expected \(3, 2\)"):
        replace(case, arrays=wide).forward(case.weights())
    with pytest.raises(ValueError, match="LSTM: indexed inputs with general weights"):
        _core.recurrent_forward(
            case.weights(),
            tensor(np.zeros((2, 3))),
            *(None,) * 4,
            *(False,) * 4,
            index=tensor([[0, 1]], "int32"),
        )
