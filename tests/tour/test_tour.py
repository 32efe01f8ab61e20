"""The tour in small: one hard collection through every kind of store in a ring, and every kind next to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tour import matrix, ring
from tests.tour.places import ALL, command, places

SLOW_TO_START = {"milvus+http"}
KINDS = [kind for kind in ALL if kind not in SLOW_TO_START]


@pytest.fixture(name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("tour")
    for each in (folder, *folder.parents[:3]):
        each.chmod(each.stat().st_mode | 0o011)  # a PostgreSQL that must not run as root has to get through
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_a_hard_collection_comes_back_from_every_store_as_it_went(folder: Path) -> None:
    first, hops, last = ring.tour(folder, KINDS, 600)
    assert [(hop.kind, hop.verdict or hop.refused) for hop in hops] == [(kind, "pass") for kind in KINDS]
    assert last == first


@pytest.mark.slow
def test_each_kind_gives_to_the_next(folder: Path) -> None:
    start = f"memory:{folder.name}#articles"
    matrix.seed(start, 300)
    with places(folder, KINDS) as found:
        stores = list(found.values())
        for one, other in zip(stores, [*stores[1:], stores[0]], strict=True):
            first = one.address("first")
            assert command("copy", start, first).code == 0, one.kind
            pair = matrix.travel(one, other, "second", first, "--no-neighbours")
            assert (pair["copied"], pair["compared"]) == (0, 0), matrix.line(pair)
