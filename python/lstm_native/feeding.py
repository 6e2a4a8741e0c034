"""Feeding: checks of data against a model, and their batches, for fit, evaluate and predict.

All checks come before anything changes, so that a failed call leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core, metrics
from lstm_native.arrays import to_float32, to_numpy
from lstm_native.compilable import Compilable
from lstm_native.data import (
    ArrayData,
    Batch,
    Epochs,
    SlicedData,
    class_weights_of,
    is_iterable_of_batches,
    is_list_of_batches,
    source_of,
)
from lstm_native.errors import warn
from lstm_native.objectives import Objective
from lstm_native.ragged import RaggedData, Sequences, columns, is_ragged
from lstm_native.random_state import next_seed
from lstm_native.running import OutputMetrics, RunningValues

Array = npt.NDArray[Any]
_DEFAULT_BATCH_SIZE = 32


class Feeding(Compilable):
    """A compiled model that checks its data and cuts them into batches.

    Attributes:
        input_names: names of the inputs, where there may be several.
    """

    input_names: list[str]

    # --- what a model brings ----------------------------------------------------------------------

    def flat_outputs(self, values: Any, argument: str) -> list[Any]:
        """Labels or weights in the order of the outputs."""
        return [values]

    def flat_inputs(self, inputs: Any) -> list[Any]:
        """The inputs in their order."""
        return [inputs]

    def packed_arrays(self, outputs: Any) -> Any:
        """Outputs, a tuple where there are several, in the form in which the model returns them."""
        return outputs

    # --- checks -----------------------------------------------------------------------------------

    def _check(
        self,
        where: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: dict[int, float] | None = None,
        mask: Array | None = None,
    ) -> tuple[Batch, Any]:
        """Rows converted and checked against model and loss, and the shape of the labels as given.

        With several outputs the shape is a list, with None for outputs without labels.
        """
        label = f"{self.label()}: {where}"
        self._compiled(where)
        inputs, output_shape = self._check_x(where, x)
        rows = rows_of(inputs)
        if rows == 0:
            raise ValueError(f"{label}: x has shape {shape_of(inputs)}, expected at least one row")
        flags = mask_tensors(mask)
        if y is None:
            raise ValueError(f"{label}: y is missing, the labels are needed")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(f"{label}: pass class_weight or sample_weight, not both")
            if not isinstance(class_weight, dict):
                raise ValueError(
                    f"{label}: class_weight is {class_weight!r}, expected a dict of class: weight"
                )
        objectives = self._objectives
        if len(objectives) == 1:
            if isinstance(output_shape[0], tuple):
                raise ValueError(f"{label}: the model has several outputs (return_state), expected one")
            if isinstance(y, dict | list | tuple):
                (y,) = self.flat_outputs(y, f"{where}: y")
            if isinstance(sample_weight, dict):
                (sample_weight,) = self.flat_outputs(sample_weight, f"{where}: sample_weight")
            labels, weight, shape = _check_output(
                label, "y", objectives[0], y, sample_weight, class_weight, rows, output_shape
            )
            return Batch(inputs, labels, weight, flags), shape
        if class_weight is not None:
            raise ValueError(f"{label}: class_weight with several outputs, pass sample_weight")
        several_weights = isinstance(sample_weight, dict | list | tuple)
        weights = (
            self.flat_outputs(sample_weight, f"{where}: sample_weight")
            if several_weights
            else [sample_weight] * len(objectives)
        )
        given = self.flat_outputs(y, f"{where}: y")
        checked = [
            _check_output(label, f"y of {o.name!r}", o, labels, weight, None, rows, shape)
            for o, labels, weight, shape in zip(objectives, given, weights, output_shape, strict=True)
        ]
        labels, weight, shape = zip(*checked, strict=True)
        return Batch(inputs, labels, weight, flags), list(shape)

    def _check_x(self, where: str, x: Any) -> tuple[Any, Any]:
        inputs: Any = self.as_input(x)
        shape = shape_of(inputs)
        shapes: tuple[Any, ...] = shape if type(inputs) is tuple else (shape,)
        fixed = self.fixed_batch_size() is not None
        for one in shapes:
            if not one:
                raise ValueError(
                    f"{self.label()}: {where} got a single number as x, expected an array of rows"
                )
            if one[0] != shapes[0][0]:
                raise ValueError(f"{self.label()}: {where} got inputs of {shapes[0][0]} and {one[0]} rows")
        if fixed:  # that of the batches, not of the whole array
            shapes = tuple((None, *one[1:]) for one in shapes)
            shape = shapes if type(inputs) is tuple else shapes[0]
        output_shape = self.compute_output_shape(shape)
        self.check_values(inputs)
        return inputs, output_shape

    def _check_batch_sizes(self, where: str, rows: int, batch_size: int) -> None:
        """Stateful layers and a fixed batch size want every batch to have the same number of rows."""
        sizes = {min(rows, batch_size), rows % batch_size or batch_size} if rows > batch_size else {rows}
        fixed = self.fixed_batch_size()
        if fixed is not None and sizes != {fixed}:
            raise ValueError(
                f"{self.label()}: {where} makes batches of {sorted(sizes)} rows, but Input fixes {fixed}"
            )
        states = [layer.states for layer in self.stateful_layers()]
        if states and (len(sizes) > 1 or any(s is not None and {len(s[0])} != sizes for s in states)):
            kept = next((len(s[0]) for s in states if s is not None), batch_size)
            raise ValueError(
                f"{self.label()}: {where} makes batches of {sorted(sizes)} rows, but stateful layers need "
                f"{kept} in each: choose batch_size, or call reset_state()"
            )

    def _ready(self, where: str, x_shape: Any, y_shape: Any, train: bool) -> RunningValues:
        """Builds what is not built yet: weights, metrics, and for training the optimizer's slots."""
        optimizer = self._compiled(where)
        for objective in self._objectives:
            if objective.loss is not None:
                objective.loss.check_usable()
        if train and optimizer.built and not self.built:
            raise ValueError(f"{self.label()}: {where} with the optimizer of another model, make a new one")
        if not self.built:
            several = isinstance(x_shape[0], tuple)
            self.build([(None, *s[1:]) for s in x_shape] if several else (None, *x_shape[1:]))
        values = self._train_values if train else self._test_values
        if values is None:
            values = self._new_values(x_shape, y_shape)
            if train:
                self._train_values = values
            else:
                self._test_values = values
        if train:
            variables = self.variables_to_train()
            if not variables:
                warn(f"{self.label()}: {where} without trainable weights")
            elif optimizer.built:
                optimizer._check_known(variables)
            else:
                optimizer.build(variables)
        return values

    def _new_values(self, x_shape: Any, y_shape: Any) -> RunningValues:
        fixed, several = self.fixed_batch_size(), isinstance(x_shape[0], tuple)
        shapes: Any = tuple((fixed, *s[1:]) for s in x_shape) if several else (fixed, *x_shape[1:])
        output_shape = self.compute_output_shape(shapes)
        objectives = self._objectives
        one = len(objectives) == 1
        outputs = []
        for o, labels, size in zip(
            objectives, [y_shape] if one else y_shape, [output_shape] if one else output_shape, strict=True
        ):
            plain, weighted = (
                [metrics.get(m, loss=o.loss, y_shape=labels, output_shape=size) for m in identifiers]
                for identifiers in (o.metrics, o.weighted_metrics)
            )
            outputs.append(OutputMetrics(plain, weighted, "" if one else o.name))
        names = [f"{o.name}_loss" for o in objectives if o.loss is not None]
        return RunningValues(outputs, names if len(names) > 1 else ())

    # --- batches ----------------------------------------------------------------------------------

    def _data(
        self,
        where: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        *,
        train: bool,
        class_weight: dict[int, float] | None = None,
        shuffle: bool | str = False,
    ) -> tuple[Epochs, tuple[Any, Any] | None]:
        """Batches with labels, and the shapes to build for where they are known beforehand."""
        label = f"{self.label()}: {where}"
        if x is None:
            raise TypeError(f"{label}: x is a NoneType, expected an array of numbers, or batches")
        if y is None and isinstance(x, list | tuple) and not is_list_of_batches(x):
            raise ValueError(f"{label}: y is missing, the labels are needed")
        if is_iterable_of_batches(x) or (isinstance(x, list | tuple) and y is None):
            if y is not None or sample_weight is not None:
                raise ValueError(f"{label}: x yields batches, so y and sample_weight belong into them")

            def prepare(x: Any, y: Any, sample_weight: Any, mask: Any = None) -> Batch:
                batch, y_shape = self._check(where, x, y, sample_weight, class_weight, mask)
                rows = rows_of(batch.x)
                self._check_batch_sizes(where, rows, rows)
                self._ready(where, shape_of(batch.x), y_shape, train)
                return batch

            return Epochs(source_of(x, prepare, label, bool(shuffle)), steps, label), None

        def convert(x: Any, y: Any, sample_weight: Any, mask: Any = None) -> Batch:
            return self._check(where, x, y, sample_weight, class_weight, mask)[0]

        if self.has_ragged(x):
            return self._ragged_data(where, x, y, sample_weight, batch_size, steps, shuffle, convert)
        seed = next_seed() if shuffle else 0
        if any(isinstance(a, np.memmap) for part in (x, y, sample_weight) for a in _parts(part)):
            return self._sliced_data(where, x, y, sample_weight, batch_size, steps, shuffle, seed, convert)
        batch, y_shape = self._check(where, x, y, sample_weight, class_weight)
        rows = rows_of(batch.x)
        batch_size = batch_size or batch_size_for(rows, steps)
        self._check_batch_sizes(where, rows, batch_size)
        epochs = Epochs(ArrayData(batch, batch_size, shuffle, seed), steps, label)
        return epochs, (shape_of(batch.x), y_shape)

    def split_validation(
        self, x: Any, y: Any, sample_weight: Any, fraction: float
    ) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
        """Splits data into training rows and the last `fraction` of the rows.

        Raises:
            ValueError: a fraction that leaves either part empty, or no arrays.
        """
        label = f"{self.label()}: fit"
        if is_iterable_of_batches(x):
            raise ValueError(
                f"{label}: validation_split needs arrays; pass validation_data beside a generator"
            )
        flat = [
            None if x is None else self.flat_inputs(x),
            None if y is None else self._flat_for_outputs(y, "y"),
            None if sample_weight is None else self._flat_for_outputs(sample_weight, "sample_weight"),
        ]
        for part, name in zip(flat, ("x", "y", "sample_weight"), strict=True):
            for i, a in enumerate(part or ()):
                if part is not None and a is not None and not is_ragged(a):
                    part[i] = to_numpy(a, label, name)
        rows = len(flat[0][0]) if flat[0] else 0
        split = int(np.floor(rows * (1 - fraction)))
        if split in (0, rows):
            raise ValueError(
                f"{label}: validation_split={fraction} of {rows} rows leaves one part without rows"
            )

        def cut(rows: slice) -> tuple[Any, Any, Any]:
            pieces = [None if part is None else [a if a is None else a[rows] for a in part] for part in flat]
            x, y, weight = (p if p is None or len(p) > 1 else p[0] for p in pieces)
            return x, y, weight

        return cut(slice(split)), cut(slice(split, None))

    def _sliced_data(
        self,
        where: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        shuffle: bool | str,
        seed: int,
        convert: Callable[..., Batch],
    ) -> tuple[Epochs, tuple[Any, Any]]:
        """Batches of arrays in files, which are never read or converted as a whole."""
        label = f"{self.label()}: {where}"
        parts = []
        for argument, given in (("x", x), ("y", y), ("sample_weight", sample_weight)):
            flat: Any = None
            if given is not None:
                values = (
                    self.flat_inputs(given) if argument == "x" else self._flat_for_outputs(given, argument)
                )
                flat = tuple(None if a is None else to_numpy(a, label, argument) for a in values)
            parts.append(flat)
        rows = len(parts[0][0])
        for argument, flat in zip(("x", "y", "sample_weight"), parts, strict=True):
            for array in flat or ():
                if array is not None and array.shape[:1] != (rows,):
                    raise ValueError(f"{label}: {argument} has shape {array.shape}, expected {rows} rows")
        inputs, labels, weight = (None if flat is None else _one_or_all(flat) for flat in parts)
        batch_size = batch_size or batch_size_for(rows, steps)
        self._check_batch_sizes(where, rows, batch_size)
        data = SlicedData(inputs, labels, weight, rows, batch_size, shuffle, seed, convert)
        batch, y_shape = self._check(where, *data.raw(slice(0, 1)))
        return Epochs(data, steps, label), (shape_of(batch.x), y_shape)

    def _flat_for_outputs(self, given: Any, argument: str) -> list[Any]:
        if len(self._objectives) > 1 and not isinstance(given, dict | list | tuple):
            return [given] * len(self._objectives)
        return self.flat_outputs(given, argument)

    def _ragged_data(
        self,
        where: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        shuffle: bool | str,
        convert: Callable[..., Batch],
    ) -> tuple[Epochs, tuple[Any, Any]]:
        """Batches of sequences of different lengths."""
        label = f"{self.label()}: {where}"
        data = self.ragged_data(where, x, y, sample_weight, batch_size, steps, bool(shuffle), convert)
        data.batch(data.rows_of_batches(0)[0])  # checks it
        return Epochs(data, steps, label), data.shapes()

    def ragged_data(
        self,
        where: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        shuffle: bool,
        prepare: Callable[..., Batch],
    ) -> RaggedData:
        """Batches of sequences, checked against the model and each other."""
        label = f"{self.label()}: {where}"
        if self.stateful_layers() or self.fixed_batch_size() is not None:
            raise ValueError(
                f"{label}: x is a list of sequences of different lengths, which are sorted by length; "
                "stateful layers and a fixed batch size need arrays"
            )
        given = self.flat_inputs(x)
        names = ["x"] if len(given) == 1 else [f"x of {name!r}" for name in self.input_names]
        inputs = columns(given, names, label)
        self._check_sequences(where, inputs)
        sequences = next(column for column in inputs if isinstance(column, Sequences))
        targets: list[Any] = []
        for argument, values in (("y", y), ("sample_weight", sample_weight)):
            parts = [None] if values is None else self._flat_for_outputs(values, argument)
            names = [argument] if len(parts) == 1 else [f"{argument} of {o.name!r}" for o in self._objectives]
            targets.append(_one_or_all(columns(parts, names, label, sequences.lengths)))
        labels, weight = targets
        return RaggedData(
            _one_or_all(inputs),
            labels,
            weight,
            batch_size or batch_size_for(len(sequences), steps),
            shuffle,
            next_seed() if shuffle else 0,
            not self.unmoved_by_padding,
            prepare,
        )

    def _check_sequences(self, where: str, inputs: list[Any]) -> None:
        """Raises ValueError when lists of sequences fit the model neither in shape nor in value."""
        lengths = np.concatenate([c.lengths for c in inputs if isinstance(c, Sequences)])
        if not lengths.any():
            return

        # Where a model fixes the number of steps, lists of different lengths cannot all have it.
        for time in (max(1, int(lengths.min())), int(lengths.max())):
            shapes = [
                (None, time, *c.flat.shape[1:]) if isinstance(c, Sequences) else (None, *c.shape[1:])
                for c in inputs
            ]
            self.compute_output_shape(_one_or_all(shapes))
        steps = [c.flat[None] if isinstance(c, Sequences) else c[:1] for c in inputs]
        self._check_x(where, _one_or_all(steps))

    def has_ragged(self, x: Any) -> bool:
        """Whether inputs are lists of sequences of different lengths, one of several inputs at least."""
        return isinstance(x, list | tuple | dict) and any(map(is_ragged, self.flat_inputs(x)))


def _check_output(
    label: str,
    what: str,
    objective: Objective,
    y: Any,
    sample_weight: Any,
    class_weight: dict[int, float] | None,
    rows: int,
    output_shape: Any,
) -> tuple[Any, Any, Any]:
    """Labels and weights of one output, and the shape of the labels as given."""
    loss = objective.loss
    if y is None:
        if loss is None and not objective.metrics and not objective.weighted_metrics:
            return None, None, None
        raise ValueError(f"{label}: {what} is missing, the labels are needed")
    given = to_numpy(y, label, what)
    if given.shape[:1] != (rows,):
        raise ValueError(f"{label}: {what} has shape {given.shape}, expected {rows} rows as x has")
    if class_weight is not None:
        sample_weight = class_weights_of(given, class_weight, label)
    weight = None
    if sample_weight is not None:
        weight = to_float32(sample_weight, label, "sample_weight").numpy()
        expected = output_shape[:-1]
        if weight.shape[:1] != (rows,) or any(
            a not in (1, b) for a, b in zip(weight.shape[1:], (*expected[1:], 1), strict=False)
        ):
            shapes = " or ".join(dict.fromkeys((f"({rows},)", str(expected))))
            raise ValueError(f"{label}: sample_weight has shape {weight.shape}, expected {shapes}")
    return given if loss is None else loss.prepare(given, output_shape), weight, given.shape


def _one_or_all(parts: Sequence[Any]) -> Any:
    """What a batch holds for these parts: the only one, or a tuple of several."""
    return tuple(parts) if len(parts) > 1 else parts[0]


def rows_of(inputs: Any) -> int:
    """Number of rows of one input or several."""
    rows: int = (inputs[0] if type(inputs) is tuple else inputs).shape[0]
    return rows


def shape_of(inputs: Any) -> Any:
    """Shape of one input, or a tuple of those of several."""
    return tuple(t.shape for t in inputs) if type(inputs) is tuple else inputs.shape


def batch_size_for(rows: int, steps: int | None) -> int:
    """The batch size where none was given."""
    return _DEFAULT_BATCH_SIZE if steps is None else -(-rows // steps)


def mask_tensors(masks: Any) -> Any:
    """Masks (rows, time) as the tensors that a pass takes: one, or a tuple with one or None for an input."""
    if isinstance(masks, tuple):
        return tuple(map(mask_tensors, masks))
    return None if masks is None else _core.as_tensor(masks, "bool")


def _parts(given: Any) -> list[Any]:
    if isinstance(given, dict):
        return list(given.values())
    return list(given) if isinstance(given, list | tuple) and len(given) < 64 else [given]
