"""plot_model: a drawing of the layers of a model, by Graphviz. Floor 4."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_native.errors import unknown_name

if TYPE_CHECKING:
    from lstm_native.models import Model

_DIRECTIONS = ("TB", "BT", "LR", "RL")


def model_to_dot(
    model: Model,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> str:
    """A drawing as text in the language of Graphviz.

    Args:
        model: a model that is built.
        show_shapes: shapes of outputs too.
        show_dtype: types of outputs too.
        show_layer_names: names of layers too.
        rankdir: direction: "TB" from top to bottom (default), "BT", "LR" or "RL".
        dpi: dots in an inch of a picture.
        show_layer_activations: names of activations too.
        show_trainable: says of layers whether training changes them.
        expand_nested, subgraph: accepted as Keras has them; models in the model are one box.

    Raises:
        ValueError: the model is not built, or an unknown direction.
    """
    if rankdir not in _DIRECTIONS:
        raise unknown_name("rankdir", rankdir, _DIRECTIONS)
    if not model.built:
        raise ValueError(f"plot_model: {model.label()} is not built, call build(input_shape) or fit() first")
    lines = [
        "digraph model {",
        f"  graph [rankdir={rankdir}, dpi={dpi}];",
        "  node [shape=box, fontname=Helvetica];",
    ]
    layers = list(model.held_layers())
    before = None
    for layer in layers:
        parts = [f"{layer.name} ({type(layer).__name__})" if show_layer_names else type(layer).__name__]
        activation = getattr(layer, "activation", None)
        if show_layer_activations and activation is not None:
            parts.append(f"activation: {getattr(activation, '__name__', activation)}")
        if show_shapes:
            parts.append(f"output shape: {model.output_shape_of(layer)}")
        if show_dtype:
            parts.append(f"output dtype: {layer.dtype}")
        if show_trainable:
            parts.append("trainable" if layer.trainable else "not trainable")
        lines.append(f"  {_quoted(layer.name)} [label={_quoted(*parts)}];")
        sources = model.sources_of(layer)
        if sources is None:
            sources = [] if before is None else [before]
        lines += [f"  {_quoted(source.partition('[')[0])} -> {_quoted(layer.name)};" for source in sources]
        before = layer.name
    return "\n".join([*lines, "}", ""])


def plot_model(
    model: Model, to_file: str | os.PathLike[str] = "model.png", show_shapes: bool = False, **options: Any
) -> None:
    """Draws a model into a file.

    A name that ends in ".dot" gets the drawing as text; any other one the picture that Graphviz makes of it,
    in the format that the name ends in.

    Args:
        model: a model that is built.
        to_file: name of the file (default "model.png").
        show_shapes: shapes of outputs too.
        options: as `model_to_dot`.

    Raises:
        ImportError: the program `dot` of Graphviz is not there.
        ValueError: the model is not built, or Graphviz does not know the format.
    """
    text, path = model_to_dot(model, show_shapes, **options), Path(to_file)
    if path.suffix == ".dot":
        path.write_text(text, encoding="utf-8")
        return
    import shutil
    import subprocess  # not at the top: it costs, and few programs come here

    program = shutil.which("dot")
    if program is None:
        raise ImportError(
            f"plot_model: Graphviz, which makes {path.name}, is not there: install it (its program is "
            "called dot), or pass a to_file that ends in .dot, which needs nothing"
        )
    done = subprocess.run(
        [program, f"-T{path.suffix[1:] or 'png'}", "-o", str(path)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"plot_model: Graphviz cannot make {path.name}: {done.stderr.strip()}")


def _quoted(*lines: str) -> str:
    escaped = (line.replace("\\", r"\\").replace('"', r"\"") for line in lines)
    return '"' + r"\n".join(escaped) + '"'
