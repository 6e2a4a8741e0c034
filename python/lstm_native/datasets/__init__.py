"""Data sets of tutorials, loaded from where Keras has them on first use."""

from __future__ import annotations

from lstm_native.datasets import imdb, reuters

__all__ = ["imdb", "reuters"]
