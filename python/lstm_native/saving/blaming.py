"""Failures while a model is made of a file, as errors of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lstm_native.saving.json_text import one_line


@contextmanager
def blaming(where: str, what: str) -> Iterator[None]:
    """Whatever fails in the body is the fault of `what` in the file `where`, and a ValueError.

    What a file asks for may fail anywhere, also in code of the caller's layers.
    """
    try:
        yield
    except MemoryError:
        raise ValueError(f"{where}: {what} asks for more memory than there is") from None
    except RecursionError:
        raise ValueError(f"{where}: {what} is nested too deeply") from None
    except Exception as error:
        text = one_line(str(error)) or type(error).__name__
        raise ValueError(text if text.startswith(where) else f"{where}: {what}: {text}") from error
