"""The libraries that are compared. One file and one class a library; PEERS names them all.

A class is imported only in the process that runs it, so no library shares a process with another.
"""

from __future__ import annotations

import importlib

from peers.base import Peer

PEERS = {
    "lstm_native": "peers.lstm_native_peer:LstmNative",
    "torch": "peers.torch_peer:Torch",
}


def peer_class(name: str) -> type[Peer]:
    """The class of the peer called `name`; imports its library."""
    module, _, attribute = PEERS[name].partition(":")
    found: type[Peer] = getattr(importlib.import_module(module), attribute)
    return found
