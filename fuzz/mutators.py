"""Changes of files that keep most of their form, so that they come deeper than the first check."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import damage
from hostile_safetensors import raw

# (bytes, largest size) to other bytes.
Mutate = Callable[[bytes, int], bytes]


def changed_json(text: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """JSON with odd values, or with other bytes."""
    if rng.randrange(4):
        try:
            value = json.loads(text)
            if isinstance(value, dict) and value:
                return json.dumps(damage.with_odd_values(value, rng, rng.choice((1, 1, 2, 4)))).encode()
        except (ValueError, IndexError, RecursionError):
            pass
    return mutate(text, 2 * len(text) + 64)


def safetensors(content: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """Another header of the right length, JSON inside its metadata, or other data."""
    end = 8 + int.from_bytes(content[:8], "little")
    text, data = content[8:end], content[end:]
    try:
        header = json.loads(text)
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
    except (ValueError, RecursionError):
        metadata = None
    if isinstance(metadata, dict) and metadata and rng.randrange(3):
        key = rng.choice(list(metadata))
        if isinstance(metadata[key], str):
            inner = changed_json(metadata[key].encode("utf-8", "surrogatepass"), rng, mutate)
            metadata[key] = inner.decode("utf-8", "replace")
            return raw(header, data)
    return raw(changed_json(text, rng, mutate), data)


def keras(content: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """An archive with a changed member and the right checksums."""
    if not content.startswith(b"PK"):
        return mutate(content, len(content) + 64)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            parts = {info.filename: file.read(info) for info in file.infolist() if info.file_size < 1 << 16}
    except Exception:
        return mutate(content, len(content) + 64)
    if not parts:
        return mutate(content, len(content) + 64)
    name = rng.choice(["config.json", *parts])
    if name in parts:
        is_json = name.endswith(".json")
        parts[name] = (
            changed_json(parts[name], rng, mutate) if is_json else mutate(parts[name], len(parts[name]) + 64)
        )
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return found.getvalue()


def onnx(content: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    """A model with a field that has another value, is gone, or is there again."""
    import onnx as library

    try:
        proto = library.ModelProto.FromString(content)
    except Exception:
        return mutate(content, len(content) + 64)
    with contextlib.suppress(UnicodeDecodeError):  # of texts that were damaged before
        for _ in range(rng.choice((1, 1, 2, 4))):
            _change_field(proto, rng, mutate)
    return bytes(proto.SerializeToString())


def _change_field(proto: Any, rng: random.Random, mutate: Mutate) -> None:
    """Goes down from the model to some field and changes it."""
    message: Any = proto
    while fields := message.ListFields():
        descriptor, value = rng.choice(fields)
        many = not isinstance(value, int | float | str | bytes) and hasattr(value, "__len__")
        if descriptor.message_type is not None and rng.randrange(8):
            message = rng.choice(value) if many else value
            continue
        if many and rng.randrange(4) == 0:
            _change_list(value, rng)
        elif descriptor.message_type is not None or rng.randrange(6) == 0:
            message.ClearField(descriptor.name)
        elif many:
            value[rng.randrange(len(value))] = _odd(value[0], rng, mutate, proto)
        else:
            _set(message, descriptor.name, _odd(value, rng, mutate, proto))
        return


def _change_list(value: Any, rng: random.Random) -> None:
    """Takes an item out or puts one in twice."""
    at = rng.randrange(len(value))
    item = value[at]
    if rng.randrange(2):
        del value[at]
    elif hasattr(item, "CopyFrom"):
        value.add().CopyFrom(item)
    else:
        value.append(item)


def _odd(value: Any, rng: random.Random, mutate: Mutate, proto: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bytes):
        return mutate(value, len(value) + 16)
    if isinstance(value, str):
        names = [name for node in proto.graph.node for name in (node.op_type, *node.input, *node.output)]
        return rng.choice([*names, "", "x", value * 2])
    if isinstance(value, float):
        return rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf"), value * 2])
    return rng.choice([0, 1, -1, 2, 3, 7, 8, 16, 99, (1 << 31) - 1, value + 1, value - 1])


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError):  # beyond the range of the field
        message.ClearField(name)


MUTATORS: dict[str, Callable[[bytes, random.Random, Mutate], bytes]] = {
    "safetensors": safetensors,
    "keras": keras,
    "onnx": onnx,
    "json": changed_json,
}
