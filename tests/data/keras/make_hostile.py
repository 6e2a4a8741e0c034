"""Makes hostile.zip with h5py: files of weights, each with one thing that must not be followed or believed.

`python make_hostile.py` with h5py. The model is Dense(2) on 3 columns: layers/dense/vars/0 and 1. Names
of files say what is wrong with them; those that begin with "good" are read.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
VARS = "layers/dense/vars"


def kernel(make: Callable[[Any], None], **options: Any) -> Callable[[Path], None]:
    """A file whose kernel `make` puts into its group."""

    def write(path: Path) -> None:
        with h5py.File(path, "w", **options) as file:
            group = file.create_group(VARS)
            group.attrs["name"] = "dense"
            group["1"] = np.zeros(2, np.float32)
            make(group)

    return write


def plain(group: Any) -> None:
    group["0"] = KERNEL


def virtual(group: Any) -> None:
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 2))
    group.create_virtual_dataset("0", layout)


def external(group: Any) -> None:
    group.create_dataset("0", (3, 2), "f4", external=[("/etc/hostname", 0, 24)])


def unallocated(shape: tuple[int, ...], **options: Any) -> Callable[[Any], None]:
    return lambda group: group.create_dataset("0", shape, "f4", **options)


def typed(dtype: Any, values: Any = None) -> Callable[[Any], None]:
    def make(group: Any) -> None:
        group.create_dataset("0", (3, 2), dtype, data=values)

    return make


def circle(group: Any) -> None:
    plain(group)
    group["again"] = group.file["layers"]


def twice(group: Any) -> None:
    plain(group)
    group["2"] = group["0"]


def deep(group: Any) -> None:
    plain(group)
    for _ in range(500):
        group = group.create_group("g")


def committed(group: Any) -> None:
    group.file["type"] = np.dtype("f4")
    group.create_dataset("0", data=KERNEL, dtype=group.file["type"])


def attributes(count: int) -> Callable[[Any], None]:
    def make(group: Any) -> None:
        plain(group)
        for i in range(count):
            group.attrs[f"a{i}"] = i

    return make


def many(group: Any) -> None:
    plain(group)
    for i in range(2, 60):
        group[str(i)] = KERNEL


def low_level(kind: Any) -> Callable[[Any], None]:
    def make(group: Any) -> None:
        h5py.h5d.create(group.id, b"0", kind, h5py.h5s.create_simple((3, 2)))

    return make


def link(target: Any) -> Callable[[Any], None]:
    return lambda group: group.__setitem__("0", target)


FILES: dict[str, Callable[[Path], None]] = {
    "good": kernel(plain),
    "good latest form": kernel(plain, libver="latest"),
    "good in the order of making": kernel(plain, track_order=True),
    "good big-endian float64": kernel(typed(">f8", KERNEL)),
    "good float16": kernel(typed("f2", KERNEL)),
    "external link": kernel(link(h5py.ExternalLink("/etc/hostname", "/x"))),
    "external link to a good file": kernel(link(h5py.ExternalLink("good", f"/{VARS}/0"))),
    "soft link": kernel(link(h5py.SoftLink(f"/{VARS}/1"))),
    "soft link to itself": kernel(link(h5py.SoftLink(f"/{VARS}/0"))),
    "external link latest form": kernel(link(h5py.ExternalLink("good", "/x")), libver="latest"),
    "soft link latest form": kernel(link(h5py.SoftLink("/layers")), libver="latest"),
    "virtual": kernel(virtual),
    "external storage": kernel(external),
    "shape bomb in one piece": kernel(unallocated((1 << 30, 1 << 20))),
    "shape bomb of the right rank": kernel(unallocated((3, 2))),
    "shape bomb in chunks": kernel(unallocated((1 << 30, 1 << 20), chunks=(1, 1024))),
    "compressed": kernel(lambda group: group.create_dataset("0", data=KERNEL, compression="gzip")),
    "compressed zeros": kernel(
        lambda g: g.create_dataset("0", data=np.zeros((999, 999), "f4"), compression="gzip")
    ),
    "in chunks": kernel(lambda group: group.create_dataset("0", data=KERNEL, chunks=(1, 2))),
    "resizable": kernel(lambda group: group.create_dataset("0", data=KERNEL, maxshape=(None, 2))),
    "strings": kernel(typed("S4")),
    "strings of any length": kernel(typed(h5py.string_dtype())),
    "sequences": kernel(typed(h5py.vlen_dtype("f4"))),
    "compound": kernel(typed([("a", "f4"), ("b", "f4")])),
    "bool": kernel(typed("?")),
    "complex": kernel(typed("c8")),
    "references": kernel(typed(h5py.ref_dtype)),
    "opaque": kernel(typed("V4")),
    "array type": kernel(lambda group: group.create_dataset("0", (3,), "(2,)f4")),
    "long double": kernel(typed(np.longdouble)),
    "bit field": kernel(low_level(h5py.h5t.STD_B32LE)),
    "time": kernel(low_level(h5py.h5t.UNIX_D32LE)),
    "integers": kernel(typed("i4", KERNEL)),
    "other shape": kernel(lambda group: group.__setitem__("0", KERNEL.T)),
    "too many axes": kernel(lambda group: group.__setitem__("0", KERNEL.reshape(3, 2, *[1] * 30))),
    "a number": kernel(lambda group: group.__setitem__("0", np.float32(3))),
    "nothing": kernel(lambda group: group.__setitem__("0", h5py.Empty("f4"))),
    "a group": kernel(lambda group: group.create_group("0")),
    "no kernel": kernel(lambda group: None),
    "circle": kernel(circle),
    "twice": kernel(twice),
    "deep": kernel(deep),
    "committed type": kernel(committed),
    "dense attributes": kernel(attributes(40), libver="latest"),
    "good many attributes": kernel(attributes(2000)),
    "dense links": kernel(many, libver="latest"),
    "too many weights": kernel(many),
    "user block": kernel(plain, userblock_size=512),
}


def main(folder: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parent / "hostile.zip", "w") as archive:
        for name, write in FILES.items():
            write(folder / "file.h5")
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            archive.writestr(info, (folder / "file.h5").read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
