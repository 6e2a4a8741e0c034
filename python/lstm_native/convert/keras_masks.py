"""Masks in functional models of Keras 3, which lists how they are computed; here they come by themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_native.convert.keras_mask_flow import RECURRENT, STOPPING, MaskFlow, histories

_MOST_MASKS = 100
OPERATIONS = ("NotEqual", "Any")


class _Mask(NamedTuple):
    """A mask that an operation computes: of the input `source` where it is not `value`."""

    source: tuple[Any, ...]
    value: float


def without_mask_operations(layers: list[Any]) -> list[Any]:
    """The layers of a functional model without the operations that compute masks of Embedding and Masking.

    A mask that is given to a call whose inputs come from that Embedding or Masking is left out too: it is the
    one that they have. Others stay, and so do the operations that compute them.

    Args:
        layers: configurations of layers with their calls.
    """
    known = [one for one in layers if isinstance(one, dict)]
    masks = _masks(known)
    flow = MaskFlow(known)
    found = _makers(known) if masks else {}
    makers = {name: found.get(mask) for name, mask in masks.items()}
    readers: dict[str, set[str]] = {}
    for one in known:
        for history in histories(_args(one)):
            readers.setdefault(history[0], set()).add(str(one.get("name")))
    wanted = {maker for maker in makers.values() if maker is not None}
    if len(wanted) > _MOST_MASKS:
        raise ValueError(f"from_keras: a model with {len(wanted)} masks, expected at most {_MOST_MASKS}")
    reached = {maker: _reached(maker, readers) for maker in wanted}
    kept: set[Any] = set()
    changed = []
    for one in layers:
        nodes = one.get("inbound_nodes") if isinstance(one, dict) else None
        if not isinstance(nodes, list) or one.get("name") in masks or flow.is_mask(str(one.get("name"))):
            changed.append(one)
            continue
        new = [_without_mask(node, makers, reached, flow) for node in nodes]
        changed.append({**one, "inbound_nodes": new})
        kept |= {history[0] for history in histories(new)}
    # A mask that is still wanted needs what it is computed from.
    kept |= {masks[name].source[0] for name in kept & masks.keys()}
    needed = {str(one.get("name")): _args(one) for one in known}
    todo = list(kept)
    while todo:
        new_names = {history[0] for history in histories(needed.get(todo.pop(), []))} - kept
        kept |= new_names
        todo += new_names

    def left_out(name: str) -> bool:
        return name not in kept and (makers.get(name) is not None or flow.is_mask(name))

    return [one for one in changed if not isinstance(one, dict) or not left_out(str(one.get("name")))]


def check_masks_beside_states(layers: list[dict[str, Any]], label: str) -> None:
    """Raises ValueError where Keras 2 gives a mask to a call that has initial states: here it has none.

    Args:
        layers: the layers of a functional model with their calls, in the form of Keras 3.
        label: the model, for the message.
    """
    by_name = {one["name"]: one for one in layers}
    seen: set[str] = set()  # of all calls: what was gone through brings no mask
    for one in layers:
        for node in one["inbound_nodes"]:
            if node["kwargs"].get("initial_state") is None or node["kwargs"].get("mask") is not None:
                continue
            todo = [history[0] for history in histories(node["args"])]
            while todo:
                name = todo.pop()
                before = by_name.get(name)
                if before is None or name in seen:
                    continue
                seen.add(name)
                if makes_mask(before):
                    raise ValueError(
                        f"from_keras: {label}: {one['class_name']} {one['name']!r} is called with "
                        f"initial_state, and in Keras 2 with the mask of {name!r} too; here, as in Keras 3, "
                        "such calls take no mask by themselves"
                    )
                if not _stops_mask(before):
                    todo += [history[0] for history in histories(_args(before))]


def makes_mask(one: dict[str, Any]) -> bool:
    """Whether a layer, or one inside it, makes masks."""
    config = one["config"]
    if one["class_name"] == "Embedding":
        return config.get("mask_zero") is True
    inner = config.get("layers", ())
    return one["class_name"] == "Masking" or any(makes_mask(layer) for layer in inner)


def _stops_mask(one: dict[str, Any]) -> bool:
    config = one["config"]
    inner = config.get("layer", one) if one["class_name"] == "Bidirectional" else one
    if inner["class_name"] in RECURRENT:
        return inner["config"].get("return_sequences") is not True
    return one["class_name"] in STOPPING


def _args(one: dict[str, Any]) -> list[Any]:
    nodes = one.get("inbound_nodes")
    return [node.get("args") for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _masks(known: list[dict[str, Any]]) -> dict[str, _Mask]:
    """What the operations among the layers compute, by name."""
    masks: dict[str, _Mask] = {}
    for class_name in OPERATIONS:
        for one in known:
            args, name = _args(one), one.get("name")
            if one.get("class_name") != class_name or len(args) != 1 or not isinstance(name, str):
                continue
            given = args[0]
            sources = list(histories(given))
            if not isinstance(given, list) or len(sources) != 1:
                continue
            if class_name == "NotEqual" and len(given) == 2 and isinstance(given[1], int | float):
                masks[name] = _Mask(sources[0], given[1])
            elif class_name == "Any" and sources[0][0] in masks:
                masks[name] = masks[sources[0][0]]
    return masks


def _makers(known: list[dict[str, Any]]) -> dict[_Mask, str]:
    """The Embedding or Masking that makes a mask by itself, by what it computes."""
    makers: dict[_Mask, str] = {}
    for one in known:
        config, name = one.get("config"), str(one.get("name"))
        if isinstance(config, dict) and one.get("class_name") == "Embedding":
            value = 0 if config.get("mask_zero") is True else None
        elif isinstance(config, dict) and one.get("class_name") == "Masking":
            value = config.get("mask_value", 0.0)
        else:
            continue
        if isinstance(value, int | float):
            makers |= {_Mask(source, value): name for source in histories(_args(one))}
    return makers


def _reached(start: str, readers: dict[str, set[str]]) -> set[str]:
    """The layers that come after `start`, and itself."""
    todo, seen = [start], {start}
    while todo:
        new = readers.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def _without_mask(
    node: Any, makers: dict[str, str | None], reached: dict[str, set[str]], flow: MaskFlow
) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("kwargs"), dict):
        return node
    wanted = {makers.get(history[0]) for history in histories([node["kwargs"].get("mask")])}
    inputs = {history[0] for history in histories(node.get("args"))}
    # A call that is given initial states takes no mask by itself.
    if node["kwargs"].get("mask") is None or node["kwargs"].get("initial_state") is not None:
        return node
    by_itself = flow.comes_by_itself(node)
    if by_itself is None:
        by_itself = bool(wanted) and all(maker is not None and inputs & reached[maker] for maker in wanted)
    if not by_itself:
        return node
    return {**node, "kwargs": {key: value for key, value in node["kwargs"].items() if key != "mask"}}
