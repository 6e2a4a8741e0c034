"""The seed of the whole package and the numbers drawn from it. Floor 4.

Random numbers are a function of (seed, offset). A layer or shuffle that was given no seed takes a
fresh one here, so that one call of `utils.set_random_seed` makes a whole program reproducible.
"""

from __future__ import annotations

import os

from lstm_native.locks import Lock

_WORD = (1 << 64) - 1
# Seeds stay below 2**63 so that they fit signed and unsigned 64-bit integers alike.
_SEED = (1 << 63) - 1

_lock = Lock()
_seed: int | None = None
_drawn = 0


def set_seed(seed: int) -> None:
    """Starts the sequence of fresh seeds anew from `seed`."""
    global _seed, _drawn
    with _lock:
        _seed = seed
        _drawn = 0


def next_seed() -> int:
    """A fresh seed in [0, 2**63): the next of the sequence that `set_seed` started.

    Without `set_seed` the sequence starts from the operating system's entropy.
    """
    global _seed, _drawn
    with _lock:
        if _seed is None:
            _seed = int.from_bytes(os.urandom(8), "little")
        _drawn += 1
        return mix(_seed, _drawn)


def mix(seed: int, index: int) -> int:
    """One well-spread seed in [0, 2**63) of the pair (seed, index)."""
    # The finalizer of SplitMix64 (Steele, Lea and Flood, 2014) on the golden-ratio sequence.
    x = (seed + index * 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return (x ^ (x >> 31)) & _SEED


def check_seed(owner: str, seed: object) -> int:
    """`seed` as an int in [0, 2**63).

    Raises:
        ValueError: `seed` is no integer. Any other integer is folded into the range.
    """
    # bool is an int in Python but never a seed that somebody meant.
    index = getattr(seed, "__index__", None)
    if index is None or isinstance(seed, bool):
        raise ValueError(f"{owner}: seed is {seed!r}, expected an integer or None")
    return int(index()) & _SEED


def state() -> tuple[int | None, int]:
    """What `restore` takes: the seed, and how many fresh seeds were drawn from it."""
    with _lock:
        return _seed, _drawn


def restore(seed: int | None, drawn: int) -> None:
    """Continues the sequence of fresh seeds where `state` was read."""
    global _seed, _drawn
    with _lock:
        _seed, _drawn = seed, drawn
