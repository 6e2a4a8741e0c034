"""Where Keras keeps the weights of a model: in the tree of its objects, and layer by layer in old files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstm_native.convert.keras_hdf5 import Dataset, Group
from lstm_native.convert.keras_hdf5_writer import NewGroup
from lstm_native.convert.layouts import Array
from lstm_native.layers import RNN, Bidirectional, StackedRNNCells, TimeDistributed
from lstm_native.layers.cells import NativeCell
from lstm_native.layers.recurrent import RecurrentLayer
from lstm_native.model_state import STREAM, all_layers, stream_of
from lstm_native.models import Model
from lstm_native.naming import snake_case
from lstm_native.saving.weights import Loading
from lstm_native.variable import Variable

_RANDOM = "lstm_native_random"  # a row with seed and position for every layer that draws random numbers
# Keras 2.13 called the list of layers so.
OLD_LAYERS = "_layer_checkpoint_dependencies"


class Stored(Protocol):
    """An array that is read when it is needed."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def read(self) -> Array: ...


class Place(NamedTuple):
    """An object of Keras and its variables.

    Attributes:
        path: names from the model on, as in "layers/lstm/cell".
        name: name of the object.
        variables: in the order in which Keras numbers them.
    """

    path: str
    name: str
    variables: list[Variable]


def places(model: Model) -> list[Place]:
    """The objects of a model in the order in which Keras visits them, those that are used twice once."""
    found: list[Place] = []
    seen: set[int] = set()
    _visit(model, "", found, seen)
    return found


def _visit(layer: Any, path: str, found: list[Place], seen: set[int]) -> None:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    inner = f"{path}/" if path else ""
    if isinstance(layer, RecurrentLayer):
        found.append(Place(path, layer.name, []))
        found.append(Place(f"{inner}cell", f"{snake_case(type(layer).__name__)}_cell", layer._variables))
        return
    if isinstance(layer, NativeCell):
        found.append(Place(path, layer.name, layer.layer._variables))
        return
    found.append(Place(path, layer.name, layer._variables))
    for child_path, child in _children(layer):
        _visit(child, f"{inner}{child_path}", found, seen)


def _children(layer: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(layer, Model):
        yield from _numbered("layers", layer.layers)
    elif isinstance(layer, Bidirectional):
        yield "forward_layer", layer.forward_layer
        yield "backward_layer", layer.backward_layer
    elif isinstance(layer, TimeDistributed):
        yield "layer", layer.layer
    elif isinstance(layer, RNN):
        yield "cell", layer.cell
    elif isinstance(layer, StackedRNNCells):
        yield from _numbered("cells", layer.cells)
    else:
        held = [one for one in layer.held_layers() if one.variables]
        if held:
            raise layer.error(f"has the layer {held[0].name!r} inside, whose place in Keras is not known")


def _numbered(path: str, layers: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    counts: dict[str, int] = {}
    for layer in layers:
        name = snake_case(type(layer).__name__)
        count = counts.get(name, 0)
        counts[name] = count + 1
        yield f"{path}/{name}_{count}" if count else f"{path}/{name}", layer


# --- reading --------------------------------------------------------------------------------------


def load_tree(model: Model, root: Group, loading: Loading | None = None) -> None:
    """Takes the weights of a `.weights.h5` or `.keras` file; sets all of them or none.

    Args:
        model: the model.
        root: the file.
        loading: which layers take theirs; all by default.

    Raises:
        ValueError: weights that are missing, too many or of another shape.
    """
    loading = loading or Loading()
    pairs: list[tuple[Variable, Stored]] = []
    used: set[str] = set()
    for place in places(model):
        path = f"{place.path}/vars" if place.path else "vars"
        used.add(path)
        if not loading.keeps(place.variables):
            with loading.layer(place.variables, place.path):
                pairs += _checked(_stored_at(root, path, place, model))
    extra = [d.path for d in root.datasets() if _is_weight(d.path) and d.path.rpartition("/")[0] not in used]
    if not loading.lenient and any(
        path.replace(OLD_LAYERS, "layers").rpartition("/")[0] not in used for path in extra
    ):
        raise ValueError(f"the file has the weight {extra[0]!r}, which {model.label()} has not")
    assign(pairs)


def _stored_at(root: Group, path: str, place: Place, model: Model) -> list[tuple[Variable, Stored]]:
    """The variables of an object with what the file has for them."""
    group = root.group(path)
    if group is None:
        group = root.group(path.replace("layers", OLD_LAYERS))
    if group is None:
        group = root.group(path.replace("/", "\\"))  # of a Windows machine
    stored = {} if group is None else group.members
    if len(stored) != len(place.variables):
        raise ValueError(
            f"the file has {len(stored)} weights under {path!r}, {model.label()} has "
            f"{len(place.variables)} there"
        )
    pairs: list[tuple[Variable, Stored]] = []
    for i, variable in enumerate(place.variables):
        dataset = stored.get(str(i))
        if not isinstance(dataset, Dataset):
            raise ValueError(f"the file has no weight {path + '/' + str(i)!r}")
        pairs.append((variable, dataset))
    return pairs


def _is_weight(path: str) -> bool:
    parts = path.replace("\\", "/").split("/")
    return parts[0] in ("layers", OLD_LAYERS) and "seed_generator" not in parts


def load_layers(
    model: Model,
    source: Sequence[tuple[str, Sequence[Stored]]],
    cudnn: set[str],
    loading: Loading | None = None,
) -> None:
    """Takes weights that are listed by layer, as old files have them; sets all of them or none.

    The layers are those of the model in order. Where the numbers of layers differ and `loading` is lenient,
    names say which is which.

    Args:
        model: the model.
        source: layers by name and their weights, in the order of the model; those without any are left out.
        cudnn: names of the layers whose weights are laid out for cuDNN.
        loading: which layers take theirs; all by default.

    Raises:
        ValueError: another number of layers or weights, or another shape.
    """
    loading = loading or Loading()
    wanted = [layer for layer in model.layers if layer.variables]
    found = [(name, stored) for name, stored in source if stored]
    if loading.by_name or len(wanted) != len(found):
        listed = dict(found)
        named = [layer for layer in wanted if layer.name in listed]
        if not loading.by_name and not (loading.lenient and named):
            raise ValueError(
                f"the file has {len(found)} layers with weights, {model.label()} has {len(wanted)}"
                + (", and no name is the same" if loading.lenient else "")
            )
        wanted = named if loading.by_name else wanted
        found = [(layer.name, listed.get(layer.name, ())) for layer in wanted]
    pairs: list[tuple[Variable, Stored]] = []
    for layer, (name, stored) in zip(wanted, found, strict=True):
        variables = [*layer.trainable_variables, *layer.non_trainable_variables]
        if loading.keeps(variables):
            continue
        with loading.layer(variables, layer.name):
            if not stored:
                raise ValueError(f"the file has no layer {name!r}")
            if layer.name in cudnn:
                stored = _from_cudnn(stored, variables)
            if len(variables) != len(stored):
                raise ValueError(
                    f"layer {name!r} has {len(stored)} weights in the file, {layer.label()} has "
                    f"{len(variables)}"
                )
            pairs += _checked(list(zip(variables, stored, strict=True)))
    assign(pairs)


def _checked(pairs: list[tuple[Variable, Stored]]) -> list[tuple[Variable, Stored]]:
    """The pairs.

    Raises:
        ValueError: another shape or kind of numbers.
    """
    for variable, stored in pairs:
        if tuple(stored.shape) != variable.shape:
            raise ValueError(
                f"{variable.path} has shape {stored.shape} in the file, expected {variable.shape}"
            )
        if (stored.dtype.kind == "f") != (variable.dtype == "float32"):
            raise ValueError(f"{variable.path} holds {stored.dtype} in the file, expected {variable.dtype}")
    return pairs


def assign(pairs: Sequence[tuple[Variable, Stored]]) -> None:
    """Sets variables, which were found to fit."""
    for variable, stored in pairs:
        variable.assign(np.asarray(stored.read(), variable.dtype))


# --- cuDNN ----------------------------------------------------------------------------------------


class _Changed(NamedTuple):
    """An array of which a change is wanted."""

    stored: Stored
    shape: tuple[int, ...]
    change: Callable[[Array], Array]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.dtype

    def read(self) -> Array:
        return self.change(self.stored.read())


def _from_cudnn(stored: Sequence[Stored], variables: Sequence[Variable]) -> list[Stored]:
    """Kernel, recurrent kernel and bias of CuDNNLSTM and CuDNNGRU in the layout of LSTM and GRU.

    cuDNN multiplies from the other side: each gate's kernel has the values of its transpose, in the shape of
    the kernel itself; the recurrent ones, which are square, are transposed. Both products have a bias: that
    of the LSTM is their sum.
    """
    if len(stored) != 3 or len(variables) != 3:
        return list(stored)
    units = variables[1].shape[0]
    gates = variables[1].shape[1] // units

    def kernel(x: Array) -> Array:
        return np.hstack([_reshaped(k) for k in np.hsplit(x, gates)])

    def recurrent(x: Array) -> Array:
        return np.hstack([k.T for k in np.hsplit(x, gates)])

    def bias(x: Array) -> Array:
        both = x.reshape(2, gates * units)
        return both if len(variables[2].shape) == 2 else both[0] + both[1]

    found: list[Stored] = []
    for one, variable, change in zip(stored, variables, (kernel, recurrent, bias), strict=True):
        expected = (2 * gates * units,) if change is bias else variable.shape
        if tuple(one.shape) != tuple(expected):
            raise ValueError(f"{variable.path} has shape {one.shape}, expected {expected} for cuDNN")
        found.append(_Changed(one, variable.shape, change))
    return found


def _reshaped(kernel: Array) -> Array:
    """(inputs, units) whose memory is that of (units, inputs)."""
    return kernel.reshape(kernel.shape[::-1]).T


def write_tree(model: Model, root: NewGroup) -> None:
    """Puts the weights where Keras 3 looks for them."""
    for place in places(model):
        group = root.group(f"{place.path}/vars" if place.path else "vars")
        group.attributes["name"] = place.name
        group.members |= {str(i): variable.numpy() for i, variable in enumerate(place.variables)}


def write_layers(model: Model, root: NewGroup) -> None:
    """Puts the weights where readers of the old form look for them."""
    root.attributes["layer_names"] = [layer.name for layer in model.layers]
    for layer in model.layers:
        variables = [*layer.trainable_variables, *layer.non_trainable_variables]
        group = root.group(layer.name)
        names = [f"{layer.name}/{i}_{variable.name}" for i, variable in enumerate(variables)]
        group.attributes["weight_names"] = names
        for name, variable in zip(names, variables, strict=True):
            folder, _, own = name.rpartition("/")
            group.group(folder).members[own] = variable.numpy()


def write_random(model: Model, root: NewGroup) -> None:
    """Puts down where the random numbers of dropout stand, in a place that Keras does not look at."""
    rows = [[stream[name] for name in STREAM] for layer in all_layers(model) if (stream := stream_of(layer))]
    if rows:
        root.members[_RANDOM] = np.array(rows, np.int64)


def load_random(model: Model, root: Group) -> None:
    """Takes what `write_random` put down, where the file has it and it fits."""
    drawing = [layer for layer in all_layers(model) if stream_of(layer)]
    stored = root.dataset(_RANDOM)
    if stored is None or stored.shape != (len(drawing), len(STREAM)) or stored.dtype != np.int64:
        return
    rows = stored.read()
    if rows.size and rows.min() >= 0:
        for layer, row in zip(drawing, rows.tolist(), strict=True):
            vars(layer).update(zip(STREAM, row, strict=True))


# --- the form of old files ------------------------------------------------------------------------


def layer_list(root: Group) -> list[tuple[str, list[Dataset]]] | None:
    """Layers and their weights of a file in the old form; None where it has another."""
    names = root.strings("layer_names")
    if names is None:
        return None
    found = []
    seen: set[str] = set()
    for name in names:
        group = root.group(name)
        if group is None:
            raise ValueError(f"the file has no group for the layer {name!r}")
        if name in seen:
            raise ValueError(f"the file lists the layer {name!r} twice")
        seen.add(name)
        weights = []
        for weight in names_in(group, "weight_names"):
            dataset = group.dataset(weight)
            if dataset is None:
                raise ValueError(f"the file has no weight {weight!r} of the layer {name!r}")
            weights.append(dataset)
        found.append((name, weights))
    return found


def names_in(group: Group, attribute: str) -> list[str]:
    """The list of names in an attribute; empty where there is none."""
    value = group.attributes.get(attribute)
    if isinstance(value, np.ndarray) and value.size == 0:  # how h5py writes an empty list
        return []
    names = group.strings(attribute) or []
    if len(set(names)) < len(names):
        raise ValueError(f"{attribute} of {group.path or 'the file'!r} has a name twice")
    return names
