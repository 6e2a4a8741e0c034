"""MultiHeadAttention: several attentions side by side, each in a space of its own. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native import constraints, regularizers
from lstm_native.arrays import optional_int, positive_int
from lstm_native.layers import on_tape
from lstm_native.layers.base import Context, Layer
from lstm_native.layers.dropout import Dropout
from lstm_native.layers.weights import get_initializer
from lstm_native.variable import Variable


class MultiHeadAttention(Layer):
    """`softmax(Q K' / sqrt(key_dim)) V` in every head, and a projection of all heads (Vaswani et al., 2017).

    Called as `layer(query, value, key=None)`, (batch, steps, features) each; `key` is `value` by default.
    In NumPy: for models in which it stands beside recurrent layers, not for large transformers.

    Args:
        num_heads: number of heads.
        key_dim: size of queries and keys in a head.
        value_dim: size of values in a head; that of keys by default.
        dropout: share of the weights of attention that training drops (default 0).
        use_bias: whether the projections have biases (default True).
        output_shape: size of the outputs; that of the queries by default.
        kernel_initializer, bias_initializer: start values of the projections.
        kernel_regularizer, bias_regularizer: penalties on them.
        kernel_constraint, bias_constraint: what they are brought back to after every step of training.
        seed: of the dropout.
    """

    supports_masking = True

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kind = "MultiHeadAttention"
        super().__init__(**kwargs)
        self.num_heads = positive_int(num_heads, kind, "num_heads")
        self.key_dim = positive_int(key_dim, kind, "key_dim")
        self.value_dim = optional_int(value_dim, kind, "value_dim")
        self.dropout = dropout
        self.use_bias = bool(use_bias)
        self.output_shape = optional_int(output_shape, kind, "output_shape")
        self.kernel_initializer = get_initializer(kernel_initializer, "glorot_uniform")
        self.bias_initializer = get_initializer(bias_initializer, "zeros")
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.seed = seed
        self._dropout = Dropout(dropout, seed=seed) if dropout else None

    def create_weights(self, input_shape: Any) -> None:
        query, value, key = (shape[-1] for shape in input_shape)
        heads, size, of_value = self.num_heads, self.key_dim, self.value_dim or self.key_dim
        out = self.output_shape or query
        self._projections = [
            self._projection(name, kernel, bias)
            for name, kernel, bias in (
                ("query", (query, heads, size), (heads, size)),
                ("key", (key, heads, size), (heads, size)),
                ("value", (value, heads, of_value), (heads, of_value)),
                ("attention_output", (heads, of_value, out), (out,)),
            )
        ]

    def _projection(
        self, name: str, kernel: tuple[Any, ...], bias: tuple[Any, ...]
    ) -> tuple[Variable, Variable | None]:
        made = self.add_weight(
            kernel,
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name=f"{name}_kernel",
        )
        if not self.use_bias:
            return made, None
        return made, self.add_weight(
            bias,
            self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            name=f"{name}_bias",
        )

    def check_input_shape(self, shape: Any) -> None:
        if not isinstance(shape[0], list | tuple) or any(len(one) != 3 for one in shape):
            raise self.error(f"inputs have shape {shape}, expected three of (batch, steps, features)")

    def compute_output_shape(self, input_shape: Any, return_attention_scores: bool = False) -> Any:
        query, value = input_shape[0], input_shape[1]
        outputs = (*query[:-1], self.output_shape or query[-1])
        scores = (query[0], self.num_heads, query[1], value[1])
        return (outputs, scores) if return_attention_scores else outputs

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask[0] if isinstance(previous_mask, list | tuple) else None

    def forward(self, inputs: Any, ctx: Context, mask: Any = None, **arguments: Any) -> Any:
        return on_tape.forward(self, inputs, ctx, mask, arguments)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """See the class; queries, values and keys in a list."""
        from lstm_native import ops  # which is made of layers

        query, value, key = inputs
        q, k, v = (
            self._projected(ops, x, projection)
            for x, projection in zip((query, key, value), self._projections, strict=False)
        )
        scores = ops.einsum("bthk,bshk->bhts", q * np.float32(1 / math.sqrt(self.key_dim)), k)
        allowed = self._allowed(mask, attention_mask, use_causal_mask, query.shape[1], value.shape[1])
        if allowed is not None:
            scores = ops.where(allowed, scores, np.float32(-3e38 / 2))
        scores = ops.softmax(scores)
        if allowed is not None and (self._dropout is not None or return_attention_scores):
            # As Keras: a query that may look nowhere sees nothing where weights are asked for or dropped, and
            # the mean of all values elsewhere.
            scores = ops.where(allowed, scores, np.float32(0))
        weights = scores if self._dropout is None else self._dropout(scores, training=training)
        heads = ops.einsum("bhts,bshv->bthv", weights, v)
        kernel, bias = self._projections[3]
        outputs = ops.einsum("bthv,hvd->btd", heads, kernel)
        outputs = outputs if bias is None else outputs + bias
        return (outputs, scores) if return_attention_scores else outputs

    def _projected(self, ops: Any, x: Any, projection: tuple[Variable, Variable | None]) -> Any:
        kernel, bias = projection
        y = ops.einsum("btd,dhk->bthk", x, kernel)
        return y if bias is None else y + bias

    def _allowed(self, masks: Any, given: Any, causal: bool, queries: int, values: int) -> Any:
        """Which query may look at which step, (batch or 1, 1, queries, values), or None for all."""
        parts = []
        of_query, of_value, of_key = masks if isinstance(masks, Sequence) else (None, None, None)
        if of_query is not None:
            parts.append(np.asarray(of_query)[:, None, :, None])
        parts += [np.asarray(m)[:, None, None, :] for m in (of_value, of_key) if m is not None]
        if given is not None:
            attention = np.asarray(given) != 0
            parts.append(attention[:, None] if attention.ndim == 3 else attention)
        if causal:
            parts.append(np.tril(np.ones((1, 1, queries, values), np.bool_)))
        allowed: Any = None
        for part in parts:
            allowed = part if allowed is None else allowed & part
        return allowed


def _call(
    self: MultiHeadAttention,
    query: Any,
    value: Any = None,
    key: Any = None,
    query_mask: Any = None,
    value_mask: Any = None,
    key_mask: Any = None,
    attention_mask: Any = None,
    return_attention_scores: bool = False,
    training: bool | None = None,
    use_causal_mask: bool = False,
) -> Any:
    """Outputs (batch, steps of the query, features), and on request the weights (batch, heads, steps, steps).

    Args:
        query, value, key: the inputs; or all of them in a list.
        query_mask, value_mask, key_mask: bool (batch, steps), True where a step counts.
        attention_mask: bool (batch, steps of the query, steps of the value), True where it may look.
        return_attention_scores: gives the weights, too.
        training: behave as in training.
        use_causal_mask: a step looks at no later one.
    """
    if value is None:
        query, value, key = (*query, query[-1])[:3]
    masks = [query_mask, value_mask, key_mask]
    named = {
        "mask": None if all(m is None for m in masks) else masks,
        "attention_mask": attention_mask,
        "return_attention_scores": return_attention_scores or None,
        "use_causal_mask": use_causal_mask or None,
        "training": training,
    }
    given = {name: argument for name, argument in named.items() if argument is not None}
    return Layer.__call__(self, [query, value, value if key is None else key], **given)


# Not in the class, whose calls are taken for ones with a single argument.
MultiHeadAttention.__call__ = _call  # type: ignore[method-assign]
