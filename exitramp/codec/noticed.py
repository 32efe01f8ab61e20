"""What is noticed of records while their markers are read: what the application changed, and what is no marker."""

from __future__ import annotations

from dataclasses import dataclass, field

from exitramp.records import Finding, Verdict

FINDING_IDS = 20


@dataclass(slots=True)
class _Rows:
    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        self.count += 1
        if len(self.ids) < FINDING_IDS and key not in self.ids:
            self.ids.append(key)


class Noticed:
    """Rows by what is to be said of them.

    `edited`: a natively kept value is no longer the one that was written with the marker, and is the one taken.
    `unread`: a marker holds something that has no place in the collection as it is described, or cannot be read.
    `no_marker`: what stands under the marker's key begins like one and is none, so that it stays where it is.
    """

    def __init__(self) -> None:
        self._edited: dict[str, _Rows] = {}
        self._unread: dict[str, _Rows] = {}
        self._no_marker = _Rows()

    def edited(self, what: str, key: str) -> None:
        self._edited.setdefault(what, _Rows()).add(key)

    def unread(self, what: str, key: str) -> None:
        self._unread.setdefault(what, _Rows()).add(key)

    def no_marker(self, key: str) -> None:
        self._no_marker.add(key)

    def findings(self) -> list[Finding]:
        found = [
            Finding(
                "codec.edited",
                f"{what} was changed in the store after it was written there; the store's value is the one taken",
                ids=tuple(rows.ids),
                count=rows.count,
                detail={"field": what},
            )
            for what, rows in sorted(self._edited.items())
        ]
        found += [
            Finding(
                "codec.unread",
                f"{what} stands in records' markers, and the collection does not say that there is such a thing: it "
                "was not read",
                Verdict.INCONCLUSIVE,
                tuple(rows.ids),
                rows.count,
                {"field": what},
            )
            for what, rows in sorted(self._unread.items())
        ]
        if self._no_marker.count:
            found.append(
                Finding(
                    "codec.no_marker",
                    "what stands under the key '_exitramp' begins like a marker and is none that this program writes; "
                    "it is taken for the application's own",
                    ids=tuple(self._no_marker.ids),
                    count=self._no_marker.count,
                )
            )
        return found
