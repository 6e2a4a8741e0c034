"""Learns from labelled sentences whether a sentence is praise or blame, then judges sentences typed after it.

    python examples/sentiment.py
    python examples/sentiment.py --data reviews.txt --data more.txt --seed 3
    python examples/sentiment.py --sentences "Not bad at all." "I would not buy it again."

A data file has one sentence a line: the sentence, a tab, and 1 (praise) or 0 (blame).
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lstm_native.layers import LSTM, Dense, Dropout, Embedding
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam
from lstm_native.utils import pad_sequences, set_random_seed

OWN_SENTENCES = Path(__file__).parent / "data" / "sentences.tsv"
PADDING, UNKNOWN = 0, 1  # ids that stand for no word of the vocabulary
LONGEST = 40  # words; of a longer sentence the last ones count
WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*|[!?]")


def read_sentences(path: Path) -> list[tuple[str, int]]:
    """Sentences and labels of one file; a wrong line ends the program with its number."""
    rows = []
    # Iterating ends lines at line feeds only; str.splitlines would also cut at control characters.
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            sentence, tab, label = line.rstrip("\n").rpartition("\t")
            if not tab or label not in ("0", "1"):
                found = repr(line.strip()[:60])
                sys.exit(f"{path}, line {number}: expected a sentence, a tab and 0 or 1, found {found}")
            rows.append((sentence.strip(), int(label)))
    return rows


def words(sentence: str) -> list[str]:
    """Lower-case words, apostrophes kept within them; ! and ? count as words."""
    return WORD.findall(sentence.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def make_vocabulary(sentences: Iterable[str]) -> dict[str, int]:
    """Ids by falling frequency. A word seen only once gets none: the model learns `unknown` from those."""
    counts = Counter(word for sentence in sentences for word in words(sentence))
    known = [word for word, count in counts.most_common() if count > 1]
    return {word: number for number, word in enumerate(known, start=UNKNOWN + 1)}


def encode(sentences: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """Ids (sentences, LONGEST), padded on the left."""
    ids = [[vocabulary.get(word, UNKNOWN) for word in words(sentence)] for sentence in sentences]
    return pad_sequences(ids, maxlen=LONGEST, value=PADDING)


def make_model(vocabulary: dict[str, int], units: int) -> Sequential:
    """Embedding -> LSTM -> Dense. So little data is soon learnt by heart; dropout works against that."""
    model = Sequential()
    model.add(Embedding(input_dim=len(vocabulary) + 2, output_dim=128, mask_zero=True))
    model.add(Dropout(0.7))
    model.add(LSTM(units))
    model.add(Dropout(0.5))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(optimizer=Adam(learning_rate=0.002), loss="binary_crossentropy", metrics=["accuracy"])
    return model


def judge(model: Sequential, vocabulary: dict[str, int], sentence: str) -> str:
    """One line: the verdict, its probability, the sentence."""
    if not words(sentence):
        return f"no words         {sentence}"
    praise = float(model.predict(encode([sentence], vocabulary), verbose=0)[0, 0])
    verdict, certainty = ("positive", praise) if praise >= 0.5 else ("negative", 1 - praise)
    return f"{verdict}  {certainty:5.1%}  {sentence}"


def typed_sentences() -> Iterable[str]:
    """Sentences from the keyboard until an empty line, or the lines of standard input where it is none."""
    if sys.stdin is None or sys.stdin.closed:
        return
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if line.strip():
                yield line.strip()
        return
    print("\nType a sentence; an empty line ends.")
    while True:
        try:
            sentence = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            break
        if not sentence:
            break
        yield sentence
    print("Goodbye.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--data", type=Path, action="extend", nargs="+", metavar="FILE", help="labelled sentences")
    option("--epochs", type=int, default=8)
    option("--units", type=int, default=32, help="units of the LSTM (default 32)")
    option("--batch-size", type=int, default=16)
    option("--seed", type=int, default=0, help="of the split and of all random numbers (default 0)")
    option("--sentences", nargs="+", metavar="SENTENCE", help="judge these, read none from the keyboard")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    set_random_seed(args.seed)
    try:
        rows = [row for path in args.data or [OWN_SENTENCES] for row in read_sentences(path)]
    except OSError as error:
        sys.exit(f"cannot read {error.filename}: {error.strerror}")
    if len(rows) < 10:
        sys.exit(f"{len(rows)} sentences are too few to learn from, at least 10 are needed")
    random.Random(args.seed).shuffle(rows)
    held_back = len(rows) // 5
    sentences = [sentence for sentence, _ in rows]
    labels = np.array([label for _, label in rows])

    vocabulary = make_vocabulary(sentences[held_back:])  # words of held-back sentences are not looked at
    x = encode(sentences, vocabulary)
    print(f"{len(rows)} sentences, {held_back} of them held back; {len(vocabulary)} words")
    model = make_model(vocabulary, args.units)
    start = time.perf_counter()
    model.fit(x[held_back:], labels[held_back:], epochs=args.epochs, batch_size=args.batch_size)
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(x[:held_back], labels[:held_back], verbose=0)
    print(f"accuracy on {held_back} held-back sentences: {accuracy:.3f} (trained in {seconds:.1f} s)")

    for sentence in typed_sentences() if args.sentences is None else args.sentences:
        print(judge(model, vocabulary, sentence), flush=True)


if __name__ == "__main__":
    main()
