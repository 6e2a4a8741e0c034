"""`python -m lstm_native` prints what this installation is made of. Floor 4."""

from __future__ import annotations

from lstm_native.config import show_config

if __name__ == "__main__":
    show_config()
