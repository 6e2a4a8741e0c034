"""PyTorch programs with our modules in the place of its own: `lstm_native.torch`."""

from __future__ import annotations

from cases import Case

import lstm_native.torch
from peers.base import Timed
from peers.torch_peer import LAYERS, Torch


class DropIn(Torch):
    packages = ("lstm-native", *Torch.packages)
    families = ("lstm", "gru")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        for family, ours in (("lstm", lstm_native.torch.LSTM), ("gru", lstm_native.torch.GRU)):
            LAYERS[family] = (ours, LAYERS[family][1])

    def streaming(self, case: Case) -> dict[str, Timed]:
        return {"layer": super().streaming(case)["layer"]}  # cells are PyTorch's own
