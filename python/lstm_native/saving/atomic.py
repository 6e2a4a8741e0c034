"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from typing import Any

# What file systems answer whose folders cannot be brought to disk by themselves.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}


def path_name(path: Any, owner: str) -> str:
    """The name of a file that a caller passes.

    Args:
        path: str, bytes or os.PathLike.
        owner: who asks, for messages: "load_model: filepath".

    Raises:
        TypeError: something else.
        ValueError: no file can be called so.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(
            f"{owner} is a {type(path).__name__}, expected the path of a file (str, bytes or os.PathLike)"
        )
    name = os.fsdecode(path)
    if "\0" in name:
        raise ValueError(f"{owner} has a null byte in it, expected the path of a file")
    return name


def replace_file(path: str | os.PathLike[str], parts: Iterable[Any]) -> None:
    """Writes `parts` to `path`, all or nothing.

    A new file beside `path` is filled, brought to disk and renamed over it: a crash or a full disk at any
    moment leaves the old file or the new one. A kill may leave the new one's beginning behind under the name
    ".NAME.*.tmp".

    Args:
        path: the file, replaced when it is there; a symbolic link is followed.
        parts: what it shall hold: bytes, contiguous arrays.

    Raises:
        OSError: the file cannot be written. `path` is as it was, unless the error says that the folder could
            not be brought to disk after the renaming.
    """
    path = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(path)
    # The errors of the temporary file would name the temporary file.
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    temporary = os.path.join(folder, f".{name[:64]}.{os.urandom(8).hex()}.tmp")
    try:
        # open() honours the umask, which tempfile does not.
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if os.name == "posix":
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """A renaming is on disk only when the folder is."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
