"""PyTorch's recurrent modules on our kernels: LSTM, GRU; `replace` swaps them in, `restore` out."""

from __future__ import annotations

from lstm_native.torch.modules import GRU, LSTM, replace, restore

__all__ = ["GRU", "LSTM", "replace", "restore"]
