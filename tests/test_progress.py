"""The progress bar: verbosity, lines, live drawing, streams that cannot do everything."""

from __future__ import annotations

import io
import re

import pytest

from lstm_native.progress import Progress, resolve_verbose


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Ascii(Terminal):
    encoding = "ascii"  # type: ignore[assignment]


def plain(text: str) -> str:
    """`text` without colours."""
    return re.sub(r"\x1b\[\d+m", "", text)


def run(stream: io.StringIO, verbose: int | str, epochs: int = 2, steps: int | None = 3) -> str:
    progress = Progress(verbose, steps, epochs, stream)
    for epoch in range(epochs):
        progress.begin(epoch)
        for step in range(1, 4):
            progress.update(step, {"loss": 1.0 / step})
        progress.end({"loss": 0.25, "val_loss": 0.0005})
    return stream.getvalue()


def test_verbose_auto() -> None:
    assert resolve_verbose("auto", Terminal()) == 1
    assert resolve_verbose("auto", io.StringIO()) == 2
    assert resolve_verbose(True, io.StringIO()) == 1
    assert [resolve_verbose(v, io.StringIO()) for v in (0, 1, 2)] == [0, 1, 2]
    for bad in (3, -1, "loud", None, 0.5):
        with pytest.raises(ValueError, match="verbose"):
            resolve_verbose(bad, io.StringIO())  # type: ignore[arg-type]


def test_silence() -> None:
    assert run(Terminal(), 0) == ""


def test_a_line_per_epoch_where_output_is_no_terminal() -> None:
    line = r"3/3 - 0s - \d+[um]?s/step - loss: 0\.2500 - val_loss: 5\.0000e-04\n"
    expected = f"Epoch 1/2\n{line}Epoch 2/2\n{line}"
    assert re.fullmatch(expected, run(io.StringIO(), "auto"))
    assert re.fullmatch(expected, run(Terminal(), 2))


def test_a_single_epoch_has_no_heading() -> None:
    assert run(io.StringIO(), 2, epochs=1).startswith("3/3 - ")


def test_verbose_1_without_a_terminal_writes_finished_bars_only() -> None:
    text = run(io.StringIO(), 1)
    assert "\r" not in text
    assert "\x1b" not in text
    bar = "━" * 20
    line = rf"3/3 {bar} 0s \d+[um]?s/step - loss: 0\.2500 - val_loss: 5\.0000e-04\n"
    assert re.fullmatch(f"Epoch 1/2\n{line}Epoch 2/2\n{line}", text)


def test_the_live_bar() -> None:
    stream = Terminal()
    text = run(stream, 1, epochs=1)
    first, *_, last = plain(text).split("\r")[1:]
    assert first.startswith(f"1/3 {'━' * 20} ")
    assert "loss: 1.0000" in first
    assert last.endswith("loss: 0.2500 - val_loss: 5.0000e-04\n")
    assert text.count("\n") == 1


def test_redraws_are_rare() -> None:
    stream = Terminal()
    progress = Progress(1, 100_000, 1, stream)
    progress.begin()
    for step in range(1, 1001):
        progress.update(step)
    # However slow the machine, there are far fewer drawings than batches.
    assert 1 <= stream.getvalue().count("\r") < 500
    assert not progress.wants_update() or stream.getvalue()


def test_a_shorter_line_wipes_the_longer_one_before_it() -> None:
    stream = Terminal()
    progress = Progress(1, 2, 1, stream)
    progress.begin()
    progress.update(1, {"a_value_with_a_long_name": 1.0})
    progress.end({"x": 1.0})
    long, short = plain(stream.getvalue()).split("\r")[1:]
    assert len(short.rstrip("\n")) >= len(long)


def test_an_unknown_number_of_steps() -> None:
    stream = io.StringIO()
    progress = Progress(2, None, 2, stream)
    for epoch in range(2):
        progress.begin(epoch)
        for step in range(1, 6):
            progress.update(step)
        progress.end({})
    assert len(re.findall(r"5/5 - 0s", stream.getvalue())) == 2
    live = Terminal()
    progress = Progress(1, None, 1, live)
    progress.begin()
    progress.update(1)
    assert "1/Unknown" in plain(live.getvalue())


def test_no_steps_at_all() -> None:
    assert run(io.StringIO(), 2, steps=0).count("0/0") == 2
    assert "0/0" in plain(run(Terminal(), 1, steps=0))


def test_values_that_are_no_numbers_and_infinities() -> None:
    stream = io.StringIO()
    progress = Progress(2, 1, 1, stream)
    progress.begin()
    progress.update(1)
    progress.end({"a": "text", "b": float("nan"), "c": float("inf"), "d": 123456.789})
    assert stream.getvalue().endswith("a: text - b: nan - c: inf - d: 123456.7890\n")


def test_a_stream_without_the_bar_character() -> None:
    stream = Ascii()
    run(stream, 1)
    assert stream.getvalue().isascii()
    assert "=" * 20 in plain(stream.getvalue())


def test_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    progress = Progress("auto", 1)
    progress.begin()
    progress.update(1)
    progress.end({"loss": 1.0})
