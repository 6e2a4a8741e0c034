"""What models of other libraries ask of LSTM, GRU and SimpleRNN, as layers: peepholes, clip, coupled gates,
projection, activations with parameters. Against the yardstick, ONNX's equations, PyTorch, and in models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_native as ln
import reference_general as gen
from lstm_native import activations
from lstm_native.activations import Parametric
from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    GRUCell,
    LSTMCell,
    SimpleRNN,
)
from lstm_native.layers.base import Context
from native_support import Array, assert_bits, f32, tensor

SCALED, HARD, LEAKY = (
    Parametric("scaled_tanh", 1.2, 0.7),
    Parametric("hard_sigmoid"),
    Parametric("leaky_relu", 0.1),
)

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "peepholes": (LSTM, {"peepholes": True}),
    "coupled": (LSTM, {"coupled_gates": True}),
    "projection": (LSTM, {"projection_units": 3}),
    "clip": (LSTM, {"clip": 0.5}),
    "output_activation": (LSTM, {"output_activation": "softsign"}),
    "all": (
        LSTM,
        {
            "peepholes": True,
            "coupled_gates": True,
            "projection_units": 9,
            "clip": 1.5,
            "activation": SCALED,
            "recurrent_activation": HARD,
            "output_activation": LEAKY,
        },
    ),
    "gru_clip": (GRU, {"clip": 0.5}),
    "gru_functions": (GRU, {"activation": LEAKY, "recurrent_activation": HARD, "reset_after": False}),
    "rnn_clip": (SimpleRNN, {"clip": 0.5}),
    "rnn_function": (SimpleRNN, {"activation": SCALED}),
}
NAMES = ("kernel", "recurrent", "bias", "peepholes", "projection")


def layer_of(name: str, units: int = 7, features: int = 5, **options: Any) -> Any:
    """A built layer with random weights, no zeros among them."""
    kind, more = LAYERS[name]
    layer = kind(units, **more, **options)
    layer.build((None, None, features))
    rng = np.random.default_rng(1)
    layer.set_weights([f32(rng.normal(size=w.shape) * 0.4) for w in layer.get_weights()])
    return layer


def weights_of(layer: Any) -> dict[str, Array | None]:
    variables = layer.kernel, layer.recurrent_kernel, layer.bias, layer.peepholes, layer.projection_kernel
    return {n: None if v is None else v.numpy() for n, v in zip(NAMES, variables, strict=True)}


def function_of(activation: Any) -> gen.Function:
    return activation.native if isinstance(activation, Parametric) else activations.name_of(activation)


def reference_of(layer: Any, x: Array, **arguments: Any) -> Any:
    weights = weights_of(layer)
    output = getattr(layer, "output_activation", None) or layer.activation
    options = gen.Options(
        function_of(layer.activation),
        function_of(layer.recurrent_activation),
        function_of(output),
        weights["peepholes"],
        weights["projection"],
        layer.coupled_gates,
        layer.clip,
    )
    given = {name: arguments.pop(name, None) for name in ("mask", "reset", "h0", "c0")}
    return gen.general_forward(
        x,
        weights["kernel"],
        weights["recurrent"],
        weights["bias"],
        options,
        cell=layer.cell_name(),
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
        **given,
        **arguments,
    )


def inputs(rows: int = 4, time: int = 6, features: int = 5) -> Array:
    return f32(np.random.default_rng(3).normal(size=(rows, time, features)))


# --- the layer alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True, "go_backwards": True}, {"use_bias": False}]
)
def test_outputs_and_states(name: str, options: dict[str, Any]) -> None:
    layer = layer_of(name, return_state=True, **options)
    x, mask = inputs(), np.random.default_rng(4).random((4, 6)) < 0.7
    states = [f32(np.random.default_rng(5).normal(size=(4, size))) for _, size in layer.named_state_sizes()]
    for given in (None, mask):
        got = layer(x, mask=given, initial_state=states)
        trace = reference_of(layer, x, mask=given, **dict(zip(("h0", "c0"), states, strict=False)))
        for value, expected in zip(got, (trace.output, trace.h, trace.c), strict=False):
            np.testing.assert_allclose(value, expected, atol=5e-6)
        assert len(got) == 1 + len(states)
    assert layer.compute_output_shape(x.shape) == tuple(value.shape for value in got)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str) -> None:
    layer = layer_of(name, return_sequences=True)
    x = inputs()
    ctx = Context(training=True, record=True)
    outputs = layer.forward(tensor(x), ctx)
    d_output = f32(np.random.default_rng(5).normal(size=outputs.shape))
    d_inputs = layer.backward(tensor(d_output), ctx)
    expected = gen.general_backward(reference_of(layer, x), d_output)
    np.testing.assert_allclose(d_inputs.numpy(), expected["inputs"], atol=2e-5)
    variables = layer.kernel, layer.recurrent_kernel, layer.bias, layer.peepholes, layer.projection_kernel
    for weight, variable in zip(NAMES, variables, strict=True):
        if variable is not None:
            got, exact = ctx.gradients[variable].numpy(), expected[weight]
            assert exact is not None
            np.testing.assert_allclose(
                got, exact, atol=1e-5 * max(1.0, float(np.abs(exact).max())), err_msg=weight
            )


def test_weights_by_name() -> None:
    layer = layer_of("all")
    shapes = {w.name.split("/")[-1]: w.shape for w in layer.weights}
    assert shapes == {
        "kernel": (5, 21),
        "recurrent_kernel": (9, 21),
        "bias": (21,),
        "peepholes": (14,),
        "projection_kernel": (7, 9),
    }
    assert layer.output_units == 9
    fresh = LSTM(4, peepholes=True)
    fresh.build((None, None, 2))
    assert fresh.peepholes is not None
    assert not fresh.peepholes.numpy().any()
    assert (fresh.get_weights()[2][4:8] == 1).all()  # the forget gate's bias


@pytest.mark.parametrize("name", LAYERS)
def test_configuration_and_copy(name: str) -> None:
    layer = layer_of(name)
    x = inputs()
    again = type(layer).from_config(layer.get_config())
    again.build((None, None, 5))
    again.set_weights(layer.get_weights())
    assert again.get_config() == layer.get_config()
    assert_bits(again(x), layer(x))
    assert_bits(copy.deepcopy(layer)(x), layer(x))


def test_reset_and_recurrent_dropout_and_checkpoints() -> None:
    x, reset = inputs(), np.random.default_rng(6).random((4, 6)) < 0.3
    layer = layer_of("all", return_sequences=True)
    np.testing.assert_allclose(layer(x, reset=reset), reference_of(layer, x, reset=reset).output, atol=5e-6)
    for options in ({"recurrent_dropout": 0.4, "dropout": 0.2, "seed": 3}, {"checkpoint_steps": 2}):
        other = layer_of("all", return_sequences=True, **options)
        assert_bits(other(x), layer(x))
        ctx = Context(training=True, record=True)
        trained = other.forward(tensor(x), ctx)
        assert np.array_equal(trained.numpy(), layer(x)) == ("checkpoint_steps" in options)
        assert other.backward(trained, ctx).shape == x.shape


# --- ONNX -----------------------------------------------------------------------------------------


def onnx_lstm(
    x: Array, w: Array, r: Array, b: Array, p: Array, f: Any, g: Any, h: Any, clip: float, input_forget: bool
) -> tuple[Array, Array, Array]:
    """The equations of the operator LSTM as its documentation has them; time first, gates i, o, f, c."""
    wi, wo, wf, wc = np.split(w.astype(np.float64), 4)
    ri, ro, rf, rc = np.split(r.astype(np.float64), 4)
    (bi, bo, bf, bc), (ci, co, cf, cc) = (np.split(half, 4) for half in np.split(b.astype(np.float64), 2))
    pi, po, pf = np.split(p.astype(np.float64), 3)
    ht = ct = np.zeros((x.shape[1], r.shape[1]))
    outputs = []

    def clipped(z: Array) -> Array:
        return np.clip(z, -clip, clip)

    for xt in x.astype(np.float64):
        it = f(clipped(xt @ wi.T + ht @ ri.T + pi * ct + bi + ci))
        ft = 1 - it if input_forget else f(clipped(xt @ wf.T + ht @ rf.T + pf * ct + bf + cf))
        gt = g(clipped(xt @ wc.T + ht @ rc.T + bc + cc))
        ct = ft * ct + it * gt
        ot = f(clipped(xt @ wo.T + ht @ ro.T + po * ct + bo + co))
        ht = ot * h(ct)
        outputs.append(ht)
    return np.stack(outputs), ht, ct


@pytest.mark.parametrize("input_forget", [False, True])
def test_onnx_lstm(input_forget: bool) -> None:
    """Weights in ONNX's layout, through the layer, give ONNX's outputs."""
    rng = np.random.default_rng(8)
    units, features = 6, 4
    x = f32(rng.normal(size=(5, 3, features)))
    w, r = f32(rng.normal(size=(4 * units, features))), f32(rng.normal(size=(4 * units, units)) * 0.5)
    b, p = f32(rng.normal(size=8 * units) * 0.3), f32(rng.normal(size=3 * units))

    def hard(z: Array) -> Array:
        return np.clip(0.3 * z + 0.4, 0, 1)

    def leaky(z: Array) -> Array:
        return np.where(z < 0, 0.05 * z, z)

    expected = onnx_lstm(x, w, r, b, p, hard, np.tanh, leaky, 0.8, input_forget)
    gates = [0, 3, 1] if input_forget else [0, 2, 3, 1]

    def columns(rows: Array) -> Array:
        parts = np.split(rows, 4)
        return np.concatenate([parts[gate] for gate in gates]).T

    layer = LSTM(
        units,
        recurrent_activation=Parametric("hard_sigmoid", 0.3, 0.4),
        output_activation=Parametric("leaky_relu", 0.05),
        peepholes=True,
        coupled_gates=input_forget,
        clip=0.8,
        return_sequences=True,
        return_state=True,
    )
    layer.build((None, None, features))
    pi, po, pf = np.split(p, 3)
    peepholes = np.concatenate([pi, po] if input_forget else [pi, pf, po])
    layer.set_weights([columns(w), columns(r), columns(b[: 4 * units] + b[4 * units :]), peepholes])
    y, h, c = layer(np.swapaxes(x, 0, 1))
    for got, exact in ((np.swapaxes(y, 0, 1), expected[0]), (h, expected[1]), (c, expected[2])):
        np.testing.assert_allclose(got, exact, atol=5e-6)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (Parametric("affine", 0.5, 0.2), lambda x: 0.5 * x + 0.2),
        (Parametric("leaky_relu"), lambda x: np.where(x < 0, 0.01 * x, x)),
        (Parametric("thresholded_relu", 0.3), lambda x: np.where(x > 0.3, x, 0)),
        (Parametric("scaled_tanh", 1.5, 0.5), lambda x: 1.5 * np.tanh(0.5 * x)),
        (Parametric("hard_sigmoid"), lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        (Parametric("elu", 0.7), lambda x: np.where(x < 0, 0.7 * np.expm1(np.minimum(x, 0)), x)),
    ],
    ids=lambda value: value.function if isinstance(value, Parametric) else "",
)
def test_parametric_activations(activation: Parametric, function: Any) -> None:
    """On arrays, and as the activation of a cell without recurrence."""
    x = np.linspace(-6, 6, 97, dtype=np.float32)
    np.testing.assert_allclose(activation(x), function(x.astype(np.float64)), atol=1e-6)
    layer = SimpleRNN(1, activation=activation)
    layer.build((None, None, 1))
    layer.set_weights([np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1)])
    np.testing.assert_allclose(layer(x[:, None, None])[:, 0], function(x.astype(np.float64)), atol=2e-6)
    again = Parametric.from_config(activation.get_config())
    assert again == activation
    assert hash(again) == hash(activation)
    assert repr(activation).startswith(f"Parametric({activation.function!r}, alpha=")
    assert activation != Parametric("hard_sigmoid", 0.21)


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(5, 8, 3), (33, 40, 17)])
def test_projection_of_torch(sizes: tuple[int, int, int], bias: bool) -> None:
    """torch.nn.LSTM(proj_size=...): outputs, states and all gradients."""
    torch = pytest.importorskip("torch")
    features, units, projected = sizes
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(features, units, bias=bias, proj_size=projected, batch_first=True)
    x = inputs(3, 9, features)
    rng = np.random.default_rng(2)
    h0, c0 = f32(rng.normal(size=(3, projected))), f32(rng.normal(size=(3, units)))
    d_y, d_h, d_c = (
        f32(rng.normal(size=(3, 9, projected))),
        f32(rng.normal(size=(3, projected))),
        c0[::-1].copy(),
    )
    given = [torch.tensor(a, requires_grad=True) for a in (x, h0, c0)]
    y, (h, c) = theirs(given[0], (given[1][None], given[2][None]))
    loss = (y * torch.tensor(d_y)).sum() + (h[0] * torch.tensor(d_h)).sum() + (c[0] * torch.tensor(d_c)).sum()
    loss.backward()

    layer = LSTM(units, projection_units=projected, use_bias=bias, return_sequences=True, return_state=True)
    layer.build((None, None, features))
    parameters = dict(theirs.named_parameters())

    def ours(name: str, of: Any) -> Array:
        return np.ascontiguousarray(of(parameters[name]).numpy().T)

    def all_of(of: Any) -> list[Array]:
        found = [ours("weight_ih_l0", of), ours("weight_hh_l0", of)]
        return [*found, ours("weight_hr_l0", of)]

    kernel, recurrent, projection = all_of(lambda p: p.detach())
    biases = (
        [ours("bias_ih_l0", lambda p: p.detach()) + ours("bias_hh_l0", lambda p: p.detach())] if bias else []
    )
    layer.set_weights([kernel, recurrent, *biases, projection])
    ctx = Context(training=True, record=True)
    outputs = layer.forward(tensor(x), ctx, initial_state=(tensor(h0), tensor(c0)))
    for got, expected in zip(outputs, (y, h[0], c[0]), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), atol=3e-6)
    d_given = layer.backward((tensor(d_y), tensor(d_h), tensor(d_c)), ctx)
    for got, expected in zip(d_given, given, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.grad.numpy(), atol=1e-5)
    variables = [layer.kernel, layer.recurrent_kernel, layer.projection_kernel]
    for variable, expected in zip(variables, all_of(lambda p: p.grad), strict=True):
        got = ctx.gradients[variable].numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    if bias:
        np.testing.assert_allclose(
            ctx.gradients[layer.bias].numpy(), ours("bias_ih_l0", lambda p: p.grad), atol=3e-5
        )


# --- in models ------------------------------------------------------------------------------------


def model_of() -> Any:
    model = ln.Sequential(
        [
            Embedding(20, 5, mask_zero=True),
            Bidirectional(LSTM(6, peepholes=True, projection_units=3, return_sequences=True)),
            LSTM(4, coupled_gates=True, clip=2.0, return_sequences=True),
            GRU(5, activation=LEAKY, recurrent_activation=HARD),
            Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def test_in_a_model(tmp_path: Path) -> None:
    """Trains behind an Embedding with a mask; a saved file gives the same predictions."""
    rng = np.random.default_rng(9)
    x = rng.integers(0, 20, (32, 7))
    y = f32((x[:, :1] > 9) * 1.0)
    ln.utils.set_random_seed(1)
    model = model_of()
    losses = model.fit(x, y, epochs=30, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    path = tmp_path / "m.safetensors"
    model.save(path)
    assert_bits(ln.load_model(path).predict(x, verbose=0), model.predict(x, verbose=0))
    rows = [row[: 1 + i % 7] for i, row in enumerate(x)]
    ragged = model.predict(rows, verbose=0)
    np.testing.assert_allclose(ragged[1], model.predict(x[1:2, :2], verbose=0)[0], atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_streams(name: str) -> None:
    layer = layer_of(name, return_sequences=True)
    model = ln.Sequential([layer, Dense(2)])
    x = inputs()
    expected = model.predict(x, verbose=0)
    stream = model.stream(batch_size=4)
    for t in range(x.shape[1]):
        assert_bits(stream.step(x[:, t]), expected[:, t])
    shapes = [[s.shape for s in states] for states in stream.state]
    assert shapes == [[(4, size) for _, size in layer.named_state_sizes()]]


def test_stateful() -> None:
    layer = layer_of("all", stateful=True, return_sequences=True)
    x = inputs()
    halves = np.concatenate([layer(x[:, :3]), layer(x[:, 3:])], axis=1)
    assert_bits(halves, layer_of("all", return_sequences=True)(x))
    assert [s.shape for s in layer.states] == [(4, 9), (4, 7)]


def test_functional_model_hands_states_on() -> None:
    """Encoder and decoder with a projection: h and c have different widths."""
    source, target = ln.Input((None, 5)), ln.Input((None, 5))
    _, h, c = LSTM(7, projection_units=3, return_state=True)(source)
    outputs = LSTM(7, projection_units=3, return_sequences=True)(target, initial_state=[h, c])
    model = ln.Model([source, target], outputs)
    model.compile("sgd", "mse")
    x = inputs()
    assert model.predict([x, x], verbose=0).shape == (4, 6, 3)
    before = model.get_weights()
    model.fit([x, x], np.ones((4, 6, 3), np.float32), epochs=1, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_cells() -> None:
    layer = layer_of("all", return_state=True)
    _, options = LAYERS["all"]
    cell = LSTMCell(7, **options)
    assert (cell.state_size, cell.output_size) == ([9, 7], 9)
    run = RNN([cell, GRUCell(3, clip=0.5)], return_state=True)
    run.build((None, None, 5))
    cell.layer.set_weights(layer.get_weights())
    x = inputs()
    output, first, second = run(x)
    assert output.shape == (4, 3)
    expected = layer(x)
    assert_bits(first[0], expected[1])
    assert_bits(first[1], expected[2])
    assert np.asarray(second).shape[-2:] == (4, 3)
    y, states = cell(x[:, 0], cell.get_initial_state(4))
    assert_bits(y, layer(x[:, :1])[0])
    assert [s.shape for s in states] == [(4, 9), (4, 7)]


# --- wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LSTM(3, clip=0), ValueError, "LSTM: clip is 0, expected a number above 0"),
        (lambda: GRU(3, clip=-1.0), ValueError, r"GRU: clip is -1\.0, expected a number above 0"),
        (lambda: LSTM(3, clip="x"), ValueError, "LSTM: clip is 'x'"),
        (lambda: LSTM(3, projection_units=0), ValueError, "LSTM: projection_units is 0"),
        (lambda: LSTM(3, projection_units=2.5), ValueError, "LSTM: projection_units is 2.5"),
        (lambda: LSTM(3, output_activation="tanhh"), ValueError, "unknown activation 'tanhh'"),
        (
            lambda: LSTM(3, activation="softmax", peepholes=True),
            ValueError,
            "LSTM: activation is softmax; with",
        ),
        (lambda: SimpleRNN(3, activation=np.sin, clip=1.0), ValueError, "SimpleRNN: activation is sin; with"),
        (lambda: GRU(3, peepholes=True), TypeError, "peepholes"),
        (lambda: Parametric("cube"), ValueError, "unknown parametric activation 'cube'"),
        (lambda: Parametric("elu", beta=1.0), ValueError, "beta is 1.0, but 'elu' has no beta"),
        (lambda: Parametric("elu", float("nan")), ValueError, "alpha is nan, expected a finite number"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_wrong_states_name_their_shapes() -> None:
    layer = layer_of("projection")
    with pytest.raises(ValueError, match=r"initial_state h has shape \(4, 7\), expected \(4, 3\)"):
        layer(inputs(), initial_state=[np.zeros((4, 7)), np.zeros((4, 7))])
