"""PyTorch's recurrent modules on our kernels: LSTM, GRU, and `replace`, which swaps them in for a model."""

from __future__ import annotations

from lstm_native.torch.modules import GRU, LSTM, replace

__all__ = ["GRU", "LSTM", "replace"]
