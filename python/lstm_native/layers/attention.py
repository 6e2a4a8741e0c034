"""Attention over a sequence: Attention (dot product or concat) and AdditiveAttention. Floor 4."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape, to_float32, to_numpy
from lstm_native.errors import check_number
from lstm_native.layers.base import Layer, Tensor, call_outputs
from lstm_native.layers.context import Context
from lstm_native.layers.dropout import Dropout

Array = npt.NDArray[Any]
# Taken from the scores of places that must not be attended to, as in Keras: a row with no other place gets
# some weights instead of NaN.
_FAR_BELOW = np.float32(1e9)


def _tensor(x: Array) -> Tensor:
    return _core.as_tensor(np.ascontiguousarray(x), "float32")


def _transposed(x: Array) -> Array:
    return x.swapaxes(-1, -2)


class Attention(Layer):
    """Dot-product attention, Luong-style: `softmax(query @ key.T) @ value`.

    Called on a list [query, value] or [query, value, key]: query (batch, queries, dim), value (batch, time,
    value dim), key (batch, time, dim), by default the value. Gives (batch, queries, value dim).

    Args:
        use_scale: multiply the scores ("concat": the sums inside tanh) by a trained number, weight `scale`.
        score_mode: "dot" for `query @ key`; "concat" for the sum of `tanh(query + key)` times a trained
            number, weight `concat_score_weight`.
        dropout: fraction of the attention weights that is dropped in training, in [0, 1].
        seed: of the dropout; drawn at random by default.
    """

    supports_masking = True

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kind = type(self).__name__
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                f"{kind}: Invalid value for argument score_mode. Expected one of {{'dot', 'concat'}}. "
                f"Received: score_mode={score_mode!r}"
            )
        dropout = check_number(kind, "dropout", dropout, "a number between 0 and 1", lambda d: 0 <= d <= 1)
        super().__init__(**kwargs)
        self.use_scale = bool(use_scale)
        self.score_mode = score_mode
        self.dropout = dropout
        self.seed = seed
        self._dropout = Dropout(dropout, seed=seed, name=f"{self.name}_dropout")

    # --- shapes -----------------------------------------------------------------------------------

    def _check_list(self, what: str, given: Any) -> None:
        """Raises ValueError unless `given` is a list of two or three things."""
        if not isinstance(given, list | tuple):
            wanted = (
                "must be called on a list of inputs," if what == "inputs" else "layer mask must be a list,"
            )
            raise self.error(
                f"{wanted} [query, value] or [query, value, key], got "
                f"{'one array' if given is None else f'a {type(given).__name__}'} for {what}"
            )
        if len(given) not in (2, 3):
            raise self.error(f"takes {what} as a list of length 2 or 3, got length {len(given)}")

    def check_input_shape(self, shape: Any) -> None:
        """Raises ValueError when the shapes of query, value and key do not fit."""
        one = isinstance(shape, list | tuple) and not all(isinstance(s, list | tuple) for s in shape)
        self._check_list("inputs", None if one else shape)
        query, value, key = (tuple(s) for s in (*shape, shape[1])[:3])
        for name, given in (("query", query), ("value", value), ("key", key)):
            if len(given) != 3 or 0 in given[1:]:
                raise self.error(f"{name} has shape {given}, expected (batch, time, dim)")
        rules = (
            (0, "rows", query, value),
            (0, "rows", query, key),
            (1, "steps", value, key),
            (2, "dim", query, key),
        )
        for axis, name, a, b in rules:
            if None not in (a[axis], b[axis]) and a[axis] != b[axis]:
                raise self.error(
                    f"query, value and key have shapes {query}, {value} and {key}, where {name} are "
                    f"{a[axis]} and {b[axis]}, expected the same"
                )

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights.

        Args:
            input_shape: list of the shapes of query, value and (where there is one) key.
        """
        self.check_input_shape(input_shape)
        self.create_weights(tuple(input_shape[0]))

    def create_weights(self, input_shape: Shape) -> None:
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(
                name="concat_score_weight", shape=(), initializer="ones"
            )

    def compute_output_shape(self, input_shape: Any, return_attention_scores: bool = False) -> Any:
        """Shape of the outputs, for a list of the shapes of query, value and key.

        With `return_attention_scores` that of the attention weights too.
        """
        query, value = (tuple(shape) for shape in input_shape[:2])
        outputs = (*query[:-1], value[-1])
        return (outputs, (*query[:-1], value[1])) if return_attention_scores else outputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the query."""
        self._check_list("inputs", inputs)
        if mask is None:
            return None
        self._check_list("mask", mask)
        return mask[0]

    # --- calls ------------------------------------------------------------------------------------

    def as_input(self, inputs: Any) -> Any:
        """One of the inputs, or the list of them, as tensors."""
        if not isinstance(inputs, list | tuple):
            return to_float32(inputs, self.label(), "input")
        names = ("query", "value", "key")
        return [to_float32(x, self.label(), name) for x, name in zip(inputs, names, strict=False)]

    def __call__(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Outputs for `inputs`, as NumPy arrays; the first call builds the layer.

        Args:
            inputs: list [query, value] or [query, value, key].
            mask: list [query mask, value mask], bool (batch, queries) and (batch, time); each may be None.
                Outputs of masked queries are zero, masked values are not attended to.
            training: behave as in training (dropout).
            return_attention_scores: return (outputs, attention weights (batch, queries, time)).
            use_causal_mask: query i attends to the values up to i only.
        """
        self._check_list("inputs", inputs)
        tensors = self.as_input(inputs)
        masks = self._checked_masks(mask, tensors)
        shapes = [x.shape for x in tensors]
        if not self.built:
            self.build(shapes)
        ctx = Context(bool(training))
        outputs = self.forward(tensors, ctx, masks, bool(return_attention_scores), bool(use_causal_mask))
        for part in self.with_penalty()[1:]:
            part.forward(outputs, ctx)
        ctx.commit_states()
        return call_outputs(outputs, ctx)

    def _checked_masks(self, mask: Any, tensors: list[Tensor]) -> list[Tensor | None] | None:
        if mask is None:
            return None
        self._check_list("mask", mask)
        masks: list[Tensor | None] = []
        for name, given, x in zip(("query", "value", "key"), mask, tensors, strict=False):
            if given is None:
                masks.append(None)
                continue
            flags = to_numpy(given, self.label(), f"{name} mask")
            if flags.shape != x.shape[:2]:
                raise self.error(
                    f"{name} mask has shape {flags.shape}, expected (batch, time) = {x.shape[:2]}"
                )
            masks.append(_core.as_tensor(flags != 0, "bool"))
        return masks

    def forward(
        self,
        inputs: Any,
        ctx: Context,
        mask: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Outputs, or (outputs, attention weights) with `return_attention_scores`.

        Args:
            inputs: tensors query, value and perhaps key.
            ctx: the running pass.
            mask: bool tensors of query, value and perhaps key, each or all of them None.
            return_attention_scores: whether the attention weights are wanted.
            use_causal_mask: query i attends to the values up to i only.
        """
        self.check_input_shape([x.shape for x in inputs])
        query, value, key = (x.numpy() for x in (*inputs, inputs[1])[:3])
        query_mask, value_mask = (None, None) if mask is None else (mask[0], mask[1])

        scores = self._scores(query, key)
        allowed = np.ones((1, 1, 1), np.bool_) if value_mask is None else value_mask.numpy()[:, None]
        if use_causal_mask:
            allowed = allowed & np.tri(*scores.shape[1:], dtype=np.bool_)
        if not allowed.all():
            scores = np.where(allowed, scores, scores - _FAR_BELOW)
        weights = _core.activation_forward("softmax", _tensor(scores))
        kept = self._dropout.forward(weights, ctx)
        outputs = kept.numpy() @ value
        if query_mask is not None:
            outputs = np.where(query_mask.numpy()[..., None], outputs, np.float32(0))
        if ctx.record:
            ctx.save(self, (query, value, key, len(inputs), scores, weights, kept, query_mask))
        return (_tensor(outputs), kept) if return_attention_scores else _tensor(outputs)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> tuple[Tensor, ...]:
        """Gradients of query, value and, where it was given, key.

        Args:
            d_outputs: gradient of the outputs; where the forward call returned attention weights too, (of the
                outputs, of the weights), each may be None.
            ctx: the running pass.
            need_d_inputs: not used: most of the work is needed at any rate.
        """
        query, value, key, count, scores, weights, kept, query_mask = ctx.take(self)
        d_out, d_weights = d_outputs if isinstance(d_outputs, tuple) else (d_outputs, None)
        d = np.zeros((*query.shape[:2], value.shape[2]), np.float32) if d_out is None else d_out.numpy()
        if query_mask is not None:
            d = np.where(query_mask.numpy()[..., None], d, np.float32(0))
        d_kept = d @ _transposed(value)
        if d_weights is not None:
            d_kept = d_kept + d_weights.numpy()
        d_value = _transposed(kept.numpy()) @ d
        d_softmax = self._dropout.backward(_tensor(d_kept), ctx)
        d_scores = _core.activation_backward("softmax", _tensor(scores), weights, d_softmax)
        d_query, d_key = self._scores_backward(d_scores.numpy(), query, key, ctx)
        if count == 3:
            return _tensor(d_query), _tensor(d_value), _tensor(d_key)
        return _tensor(d_query), _tensor(d_value + d_key)

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("attends to all time steps at once and cannot run step by step in a stream")

    # --- scores -----------------------------------------------------------------------------------

    def _scale(self) -> Any:
        return np.float32(1) if self.scale is None else self.scale.numpy()

    def _scores(self, query: Array, key: Array) -> Array:
        """Scores (batch, queries, time) before masks."""
        if self.concat_score_weight is None:
            return np.asarray(self._scale() * (query @ _transposed(key)))
        scale = self._scale()
        sums = _core.additive_scores_forward(_tensor(scale * query), _tensor(scale * key), None)
        return np.asarray(self.concat_score_weight.numpy() * sums.numpy())

    def _scores_backward(
        self, d_scores: Array, query: Array, key: Array, ctx: Context
    ) -> tuple[Array, Array]:
        """Gradients of query and key; adds those of the weights to `ctx`."""
        scale = self._scale()
        if self.concat_score_weight is None:
            d_query, d_key = d_scores @ key, _transposed(d_scores) @ query
        else:
            factor = self.concat_score_weight.numpy()
            ones = _tensor(np.full(query.shape[-1], factor))
            by_query, by_key, by_factor = _core.additive_scores_backward(
                _tensor(scale * query), _tensor(scale * key), ones, _tensor(d_scores)
            )
            assert by_factor is not None
            d_query, d_key = by_query.numpy(), by_key.numpy()
            self._add_number(ctx, self.concat_score_weight, by_factor.numpy().sum(dtype=np.float64))
        if self.scale is not None:
            d_scale = (d_query * query).sum(dtype=np.float64)
            if self.concat_score_weight is not None:  # there it scales the key as well
                d_scale += (d_key * key).sum(dtype=np.float64)
            self._add_number(ctx, self.scale, d_scale)
        return scale * d_query, scale * d_key

    @staticmethod
    def _add_number(ctx: Context, variable: Any, gradient: float) -> None:
        ctx.add_gradient(variable, _core.as_tensor(np.float32(gradient), "float32"))


class AdditiveAttention(Attention):
    """Additive attention, Bahdanau-style: scores are sums of `scale * tanh(query + key)`.

    Inputs, masks and outputs as `Attention`.

    Args:
        use_scale: multiply the features by a trained vector, weight `scale` (dim,), before they are summed.
        dropout: fraction of the attention weights that is dropped in training, in [0, 1].
    """

    config_attributes: ClassVar[dict[str, str | None]] = {"score_mode": None}

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def create_weights(self, input_shape: Shape) -> None:
        self.scale = None
        if self.use_scale:
            dim = input_shape[-1]
            if dim is None:
                raise self.error(f"query has shape {input_shape}, expected a known dim (last axis)")
            self.scale = self.add_weight(name="scale", shape=(dim,), initializer="glorot_uniform")
        self._dim = input_shape[-1]

    def check_input_shape(self, shape: Any) -> None:
        super().check_input_shape(shape)
        if self.built and self.scale is not None and shape[0][-1] != self._dim:
            raise self.error(f"query has shape {tuple(shape[0])}, expected {self._dim} in the last axis")

    def _scale_tensor(self) -> Tensor | None:
        return None if self.scale is None else _tensor(self.scale.numpy())

    def _scores(self, query: Array, key: Array) -> Array:
        scores = _core.additive_scores_forward(_tensor(query), _tensor(key), self._scale_tensor())
        return np.asarray(scores.numpy())

    def _scores_backward(
        self, d_scores: Array, query: Array, key: Array, ctx: Context
    ) -> tuple[Array, Array]:
        d_query, d_key, d_scale = _core.additive_scores_backward(
            _tensor(query), _tensor(key), self._scale_tensor(), _tensor(d_scores)
        )
        if self.scale is not None and d_scale is not None:
            ctx.add_gradient(self.scale, d_scale)
        return d_query.numpy(), d_key.numpy()
