"""SavingCallback: callbacks that save after every epoch, or after every so many batches. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native.callbacks.base import Callback


class SavingCallback(Callback):
    """Base of callbacks with an argument `save_freq`.

    Attributes:
        save_freq: "epoch", or a number of batches, counted through all epochs.
        unsaved_batches: Batches since the last saving.
    """

    save_freq: Any
    unsaved_batches: int = 0

    def set_frequency(self, save_freq: Any) -> None:
        """Takes `save_freq`; to be called once, by the constructor.

        Raises:
            ValueError: Neither "epoch" nor a positive integer.
        """
        if save_freq == "epoch":
            self.idle_hooks = ("on_train_batch_end",)
        elif not isinstance(save_freq, int) or isinstance(save_freq, bool) or save_freq < 1:
            raise ValueError(
                f"{type(self).__name__}: Unrecognized save_freq {save_freq!r}, expected 'epoch' or a "
                "positive number of batches"
            )
        self.save_freq = save_freq

    def is_due(self) -> bool:
        """Whether it is time to save, asked once after every batch."""
        if self.save_freq == "epoch":
            return False
        self.unsaved_batches += 1
        if self.unsaved_batches < self.save_freq:
            return False
        self.unsaved_batches = 0
        return True
