"""How often a classifier is right of questions that it was not trained on, beside what needs no training.

Cross-validation: every question is judged by a classifier trained on the other parts, each label is spread over the
parts alike, and a text that stands there twice is in one part. Intervals are Wilson's, 95 %, two-sided; they take the
questions for independent of each other, which parts that share most of their training are not quite. The graph that is
exported was trained on all of them, so that these figures are of classifiers that knew a little less than it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.evals.paired import wilson_interval
from exitramp.reindex.labelled import Labelled, commonest, folded

THRESHOLDS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
Matrix = npt.NDArray[np.float64]
Trained = Callable[[npt.NDArray[np.generic], Sequence[str]], Any]


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    right: int
    of: int

    def to_json(self) -> dict[str, Any]:
        interval = list(wilson_interval(self.right, self.of)) if self.of else None
        return {"right": self.right, "of": self.of, "share": self.right / self.of if self.of else None,
                "wilson_95": interval}  # fmt: skip

    def __str__(self) -> str:
        if not self.of:
            return "none"
        low, high = wilson_interval(self.right, self.of)
        return f"{self.right} of {self.of}, {self.right / self.of:.1%} ({low:.1%} … {high:.1%})"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What says a label without having been trained. `only_classifier` and `only_baseline` count the questions of
    which one alone is right; `p` is McNemar's, exact, and large where there are few."""

    name: str
    share: Share
    only_classifier: int
    only_baseline: int
    p: float

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **self.share.to_json(), "only_the_classifier_right": self.only_classifier,
                "only_the_baseline_right": self.only_baseline, "mcnemar_p": self.p}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`confusion`: of each label, how many of its questions were called each, in the order of `labels`. `sure`: of each
    threshold, those that the classifier decides, and how many of them rightly."""

    labels: tuple[str, ...]
    folds: int
    share: Share
    confusion: tuple[tuple[int, ...], ...]
    sure: tuple[tuple[float, Share], ...]
    baselines: tuple[Baseline, ...] = field(default=())

    def of_label(self, place: int) -> Share:
        return Share(self.confusion[place][place], sum(self.confusion[place]))

    def to_json(self) -> dict[str, Any]:
        return {
            "folds": self.folds,
            "held_out": self.share.to_json(),
            "confusion": {
                label: {"called": dict(zip(self.labels, row, strict=True)), **self.of_label(place).to_json()}
                for place, (label, row) in enumerate(zip(self.labels, self.confusion, strict=True))
            },
            "by_threshold": [{"threshold": at, "decided": share.of, **share.to_json()} for at, share in self.sure],
            "baselines": [each.to_json() for each in self.baselines],
        }


def held_out(
    train: Trained,
    vectors: npt.NDArray[np.generic],
    rows: Sequence[Labelled],
    *,
    folds: int,
    rule: Callable[[str], str] | None = None,
) -> HeldOut:
    """`train` gives a classifier of vectors and labels, with `labels` and `probabilities`; `rule` says a label of a
    text without any training, where there is such a rule."""
    labels = tuple(sorted({row.label for row in rows}))
    said, sureness = _said(train, vectors, rows, labels, folds)
    right = [name == row.label for name, row in zip(said, rows, strict=True)]
    counts = [[0] * len(labels) for _ in labels]
    for name, row in zip(said, rows, strict=True):
        counts[labels.index(row.label)][labels.index(name)] += 1
    sure = []
    for at in THRESHOLDS:
        decided = [is_right for is_right, probability in zip(right, sureness, strict=True) if probability >= at]
        sure.append((at, Share(sum(decided), len(decided))))
    usual = commonest(rows)
    baselines = [_against(f"always {usual!r}", [row.label == usual for row in rows], right)]
    if rule is not None:
        baselines.append(_against("the written rule", [rule(row.text) == row.label for row in rows], right))
    return HeldOut(
        labels, folds, Share(sum(right), len(right)), tuple(map(tuple, counts)), tuple(sure), tuple(baselines)
    )


def parts_of(rows: Sequence[Labelled], folds: int) -> list[int]:
    """Of each row, which part it is in: the same for the same text, and every label spread alike."""
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(folded(row.text), place)
    order = sorted(first, key=lambda text: (rows[first[text]].label, first[text]))
    part = {text: place % folds for place, text in enumerate(order)}
    return [part[folded(row.text)] for row in rows]


def _said(
    train: Trained, vectors: npt.NDArray[np.generic], rows: Sequence[Labelled], labels: tuple[str, ...], folds: int
) -> tuple[list[str], list[float]]:
    """Of each row, the label that a classifier trained without its part gives, and how sure it is."""
    said, sureness = [""] * len(rows), [0.0] * len(rows)
    parts = parts_of(rows, folds)
    for part in range(folds):
        rest = [row for row, its in enumerate(parts) if its != part]
        held = [row for row, its in enumerate(parts) if its == part]
        made = train(vectors[rest], [rows[row].label for row in rest])
        found: Matrix = made.probabilities(vectors[held])
        for row, each in zip(held, found, strict=True):
            best = int(each.argmax())
            said[row], sureness[row] = made.labels[best], round(float(each[best]), 4)
    return said, sureness


def _against(name: str, theirs: Sequence[bool], ours: Sequence[bool]) -> Baseline:
    pairs = list(zip(ours, theirs, strict=True))
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    return Baseline(name, Share(sum(theirs), len(theirs)), won, lost, _mcnemar(won, lost))


def _mcnemar(won: int, lost: int) -> float:
    """Two-sided and exact: twice the binomial tail at one half. Here without scipy, which ONNX does not need."""
    n, least = won + lost, min(won, lost)
    return min(1.0, 2 * sum(comb(n, wins) for wins in range(least + 1)) / (1 << n))
