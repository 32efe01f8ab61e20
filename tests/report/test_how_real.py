"""What answered, in which version, reached how: a recall without an index and a library beside a server are named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from exitramp.report.model import Document
from tests.report.drill_journals import document_of_run, judged, played, section_text
from tests.report.drill_results import results

NOTE = "it builds one from 10,000 KiB of vectors in a segment on"


def neighbours(folder: Path, **changes: Any) -> Document:
    found = copy.deepcopy(results())
    found["parity"]["neighbours"] |= changes
    return document_of_run(played(folder, found).end("pass", judged()))


def section_of(document: Document, title: str) -> str:
    return section_text(document, title).replace("\xa0", " ")


def coverage(indexed: int | None, compared: int | None, note: str = "") -> dict[str, Any]:
    return {"indexed": indexed, "compared": compared, "note": note}


def test_a_side_that_compared_every_vector_is_not_said_to_have_an_index_that_was_ready(tmp_path: Path) -> None:
    document = neighbours(tmp_path, coverage_a=coverage(40, 0), coverage_b=coverage(0, 40, NOTE))
    section = section_of(document, "Portability inventory")
    assert "The primary answered from its approximate index of 40 vectors." in section
    assert (
        f"The substitute compared all 40 vectors with each query, exactly, and no index took part ({NOTE})" in section
    )
    assert "ready" not in section
    front = section_of(document, "Verdict")
    assert (
        f"**The index of the substitute’s store.** It compared all 40 vectors with each query ({NOTE}): what it found"
        " is complete by construction" in front
    )
    assert "The index of the primary’s store" not in front


def test_an_index_that_held_a_part_of_the_vectors_was_tested_by_that_part(tmp_path: Path) -> None:
    document = neighbours(tmp_path, coverage_a=coverage(40, 0), coverage_b=coverage(30, 10))
    section = section_of(document, "Portability inventory")
    assert "The substitute has 30 of its 40 vectors in an approximate index, by its own count" in section
    assert "30 of its 40 vectors stood in it, by its own count" in section_of(document, "Verdict")


@pytest.mark.parametrize("told", [{}, {"coverage_b": None}, {"coverage_b": coverage(None, None)}])
def test_of_a_store_that_does_not_tell_no_index_is_called_tested(tmp_path: Path, told: dict[str, Any]) -> None:
    document = neighbours(tmp_path, coverage_a=coverage(40, 0), **told)
    assert "The substitute does not tell whether an approximate index answered" in section_of(
        document, "Portability inventory"
    )
    assert "**The index of the substitute’s store.** Its store does not tell" in section_of(document, "Verdict")


def test_an_index_that_answered_for_every_vector_is_no_doubt(tmp_path: Path) -> None:
    document = neighbours(tmp_path, coverage_a=coverage(40, 0), coverage_b=coverage(40, 0))
    assert "The index of the" not in section_of(document, "Verdict")


def test_an_index_that_was_not_ready_is_said_to_have_been_so(tmp_path: Path) -> None:
    document = neighbours(tmp_path, index_b="building", coverage_a=coverage(40, 0), coverage_b=coverage(None, None))
    section = section_of(document, "Portability inventory")
    assert "The index of the substitute was not ready: it said “building”." in section


def test_a_run_whose_neighbours_were_not_measured_says_nothing_of_its_indexes(tmp_path: Path) -> None:
    document = neighbours(tmp_path, parts=[], coverage_b=coverage(0, 40))
    assert "The index of the" not in section_of(document, "Verdict")


# ------------------------------------------------------------------------------ servers and libraries

SERVER = {
    "address": "chroma+http://127.0.0.1:8000#c",
    "summary": "A Chroma server",
    "service_summary": "A real Chroma server on a loopback port",
    "in_process": False,
    "library": {"name": "chromadb", "version": "1.5.9"},
    "identity": {"told": True, "server_version": "1.0.0", "client_version": "1.5.9"},
}
LIBRARY = {
    "address": "qdrant:/runs/s#c",
    "summary": "Qdrant's engine in process, on a folder of this machine",
    "in_process": True,
    "library": {"name": "qdrant-edge-py", "version": "0.9.0"},
    "identity": {"told": True, "server_version": "0.9.0", "client_version": "0.9.0"},
}


def stores(folder: Path, primary: dict[str, Any], substitute: dict[str, Any]) -> Document:
    found = copy.deepcopy(results())
    for stack, told in (("primary", primary), ("substitute", substitute)):
        found["start"]["stacks"][stack]["store"] |= told
    return document_of_run(played(folder, found).end("pass", judged()))


def test_a_library_beside_a_server_is_said_to_be_one_where_the_stacks_are_listed(tmp_path: Path) -> None:
    document = stores(tmp_path, SERVER, LIBRARY)
    scope, annex = section_of(document, "Scope"), section_of(document, "Annex")
    for text in ("chroma: A real Chroma server on a loopback port", "qdrant: Qdrant's engine in process"):
        assert text in scope
    for text in ("server 1.0.0 by its own account, asked through chromadb 1.5.9", "qdrant-edge-py 0.9.0, engine and"):
        assert text in scope
        assert text in annex
    assert "to qdrant (in process) and" in document.subtitle


def test_latencies_of_a_server_and_a_library_are_not_left_beside_each_other_without_a_word(tmp_path: Path) -> None:
    front = section_of(stores(tmp_path, SERVER, LIBRARY), "Verdict")
    assert (
        "**The two stores are reached in different ways.** The primary is a server asked over HTTP; the substitute is"
        " Qdrant's engine in process, on a folder of this machine, and no server. Their latencies compare" in front
    )


def test_a_journal_that_does_not_say_how_a_store_is_reached_has_its_address(tmp_path: Path) -> None:
    front = section_of(document_of_run(played(tmp_path, results()).end("pass", judged())), "Verdict")
    assert "The primary is a server asked over HTTP; the substitute is qdrant, and no server." in front


def test_two_libraries_are_no_servers_and_two_servers_need_no_word(tmp_path: Path) -> None:
    other = {**LIBRARY, "address": "chroma:/runs/p#c", "summary": "Chroma in process, on a folder of this machine"}
    front = section_of(stores(tmp_path / "one", other, LIBRARY), "Verdict")
    assert "**Both stores ran in the drill’s own process.** No server of either kind was asked" in front
    served = {**SERVER, "address": "qdrant+http://127.0.0.1:6333#c"}
    front = section_of(stores(tmp_path / "other", SERVER, served), "Verdict")
    assert "reached in different ways" not in front
    assert "own process" not in front


def test_a_server_that_does_not_tell_its_version_is_said_not_to(tmp_path: Path) -> None:
    silent = {**SERVER, "identity": {"told": False, "why": "nobody there"}}
    annex = section_of(stores(tmp_path, silent, LIBRARY), "Annex")
    assert "its server does not tell its version, asked through chromadb 1.5.9" in annex
