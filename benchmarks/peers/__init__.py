"""The libraries that are compared. One file and one class a library; PEERS names them all.

A class is imported only in the process that runs it, so no library shares a process with another.
"""

from __future__ import annotations

import importlib

from peers.base import Peer

PEERS = {
    "lstm_native": "peers.lstm_native_peer:LstmNative",
    "torch": "peers.torch_peer:Torch",
    "onnxruntime": "peers.onnxruntime_peer:OnnxRuntime",
    "openvino": "peers.openvino_peer:OpenVino",
    "jax": "peers.jax_peer:Jax",
    "keras": "peers.keras_peer:Keras",
    "litert": "peers.litert_peer:LiteRt",
    "drop_in": "peers.drop_in_peer:DropIn",
}
# Ours in other programs: runs where it is asked for, and is not one of those that we compare with.
OURS_ELSEWHERE = ("drop_in",)


def peer_class(name: str) -> type[Peer]:
    """The class of the peer called `name`; imports its library."""
    module, _, attribute = PEERS[name].partition(":")
    found: type[Peer] = getattr(importlib.import_module(module), attribute)
    return found


def environment(threads: int) -> dict[str, str]:
    """What the libraries must find in the environment before they are imported."""
    return {
        "LSTM_NATIVE_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "NPROC": str(threads),  # of XLA's pools
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
