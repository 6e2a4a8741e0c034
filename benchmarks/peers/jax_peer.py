"""JAX on the CPU: `lax.scan` under `jit`, the product with all inputs before the scan."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import EPSILON, LEARNING_RATE, Array, Case
from jax import lax

from peers.base import Peer, Timed

UNROLL = {"scan": 1, "scan, 4 steps unrolled": 4}
BETA_1, BETA_2 = 0.9, 0.999


class Jax(Peer):
    packages = ("jax", "jaxlib", "numpy")

    def __init__(self, threads: int) -> None:
        # XLA sizes its pools by the processors that it may use.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])

    def inference(self, case: Case) -> dict[str, Timed]:
        weights, x = _on_device(case.layer_weights()[0]), jnp.asarray(case.data().transpose(1, 0, 2))

        def form(unroll: int) -> Timed:
            run = jax.jit(partial(_lstm, unroll=unroll))
            return Timed(
                lambda: run(weights, x).block_until_ready(), lambda y: np.asarray(y).transpose(1, 0, 2)
            )

        return {name: form(unroll) for name, unroll in UNROLL.items()}

    def streaming(self, case: Case) -> dict[str, Timed]:
        weights, x = _on_device(case.layer_weights()[0]), case.data()[:, 0]
        state = (jnp.zeros((case.batch, case.units)),) * 2

        @partial(jax.jit, donate_argnums=1)
        def step(weights: Any, state: Any, x: Any) -> Any:
            return _cell(state, x @ weights[0] + weights[2], weights[1])

        # A donated buffer is gone, so the two states must not be one array.
        state = tuple(array.copy() for array in state)

        def call() -> Any:
            nonlocal state
            state = step(weights, state, x)
            return np.asarray(state[0])

        return {"jit, state donated": Timed(call, np.array)}

    def training(self, case: Case) -> dict[str, Timed]:
        ids, labels = jnp.asarray(case.data().T), jnp.asarray(case.labels())

        def loss_of(parameters: Any, unroll: int) -> Any:
            logits = _logits(parameters, ids, unroll)
            return jnp.mean(jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits))))

        def form(unroll: int) -> Timed:
            @partial(jax.jit, donate_argnums=(0, 1, 2))
            def step(parameters: Any, m: Any, v: Any, count: Any) -> Any:
                loss, gradients = jax.value_and_grad(loss_of)(parameters, unroll)
                alpha = LEARNING_RATE * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
                m = jax.tree.map(lambda a, g: BETA_1 * a + (1 - BETA_1) * g, m, gradients)
                v = jax.tree.map(lambda a, g: BETA_2 * a + (1 - BETA_2) * g * g, v, gradients)
                parameters = jax.tree.map(
                    lambda p, a, b: p - alpha * a / (jnp.sqrt(b) + EPSILON), parameters, m, v
                )
                return parameters, m, v, count + 1, loss

            parameters = _parameters(case)
            zeros = partial(jax.tree.map, jnp.zeros_like)
            state: Any = (parameters, zeros(parameters), zeros(parameters), jnp.float32(1))

            def call() -> float:
                nonlocal state
                *state, loss = step(*state)
                return float(loss)

            return Timed(call, np.asarray)

        return {name: form(unroll) for name, unroll in UNROLL.items()}

    def model(self, case: Case) -> dict[str, Timed]:
        parameters, ids = _parameters(case), jnp.asarray(case.data().T)

        def form(unroll: int) -> Timed:
            run = jax.jit(lambda parameters, ids: jax.nn.sigmoid(_logits(parameters, ids, unroll)))
            return Timed(lambda: run(parameters, ids).block_until_ready(), np.asarray)

        return {name: form(unroll) for name, unroll in UNROLL.items()}


def _on_device(weights: list[Array]) -> list[Any]:
    return [jnp.asarray(weight) for weight in weights]


def _parameters(case: Case) -> dict[str, Any]:
    return {
        "table": jnp.asarray(case.table()),
        "lstm": [_on_device(layer) for layer in case.layer_weights()],
        "dense": _on_device(case.dense_weights()),
    }


def _cell(state: tuple[Any, Any], projected: Any, recurrent_kernel: Any) -> tuple[Any, Any]:
    h, c = state
    i, f, g, o = jnp.split(projected + h @ recurrent_kernel, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _lstm(weights: list[Any], x: Any, unroll: int) -> Any:
    """x (T, B, I) -> (T, B, U)."""
    kernel, recurrent_kernel, bias = weights
    zeros = jnp.zeros((x.shape[1], recurrent_kernel.shape[0]))

    def step(state: tuple[Any, Any], projected: Any) -> tuple[tuple[Any, Any], Any]:
        state = _cell(state, projected, recurrent_kernel)
        return state, state[0]

    return lax.scan(step, (zeros, zeros), x @ kernel + bias, unroll=unroll)[1]


def _logits(parameters: Any, ids: Any, unroll: int) -> Any:
    x = parameters["table"][ids]
    for weights in parameters["lstm"]:
        x = _lstm(weights, x, unroll)
    kernel, bias = parameters["dense"]
    return x[-1] @ kernel + bias
