"""clear_session: names of layers begin anew. Floor 4."""

from __future__ import annotations


def clear_session(free_memory: bool = True) -> None:
    """Names that layers get by themselves begin anew: the next LSTM is "lstm" again.

    Args:
        free_memory: accepted as Keras has it; models free their memory when nobody holds them any more.
    """
    from lstm_native.layers.base import forget_names  # which takes longer to import than this file

    forget_names()
