"""Which place is meant is told by the whole address, and written down without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from exitramp.cli.place import place_of
from exitramp.errors import AddressError, UsageError, WriteRefused
from exitramp.journal import Journal
from exitramp.transfer.checkpoint import Progress
from exitramp.urls import Address, same_place
from exitramp.wrappers import open_endpoint, require_write_allowed
from tests.cli.conftest import Cli
from tests.drill.small_stacks import fill

FAR = "qdrant+http://db.example.com:6333#a"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("qdrant+http://alice@db.example.com#a", "qdrant+http://bob@db.example.com#a"),
        ("qdrant+http://alice@db.example.com#a", "qdrant+http://db.example.com#a"),
        ("qdrant+http://db.example.com:1#a", "qdrant+http://db.example.com:2#a"),
        ("qdrant+http://db.example.com/x#a", "qdrant+http://db.example.com/y#a"),
        ("qdrant+http://db.example.com#a", "qdrant+http://db.example.com#b"),
        ("qdrant+http://db.example.com#a", "chroma+http://db.example.com#a"),
        ("chroma+http://db.example.com?tenant=one#a", "chroma+http://db.example.com?tenant=two#a"),
    ],
)
def test_consent_for_one_place_is_none_for_another(one: str, other: str) -> None:
    require_write_allowed(Address.parse(one), [one])
    with pytest.raises(WriteRefused):
        require_write_allowed(Address.parse(one), [other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("qdrant+http://db.example.com?api_key=env:OLD#a", "qdrant+http://db.example.com?api_key=env:NEW#a"),
        ("qdrant+http://db.example.com?api_key=env:OLD#a", "qdrant+http://db.example.com#a"),
        ("qdrant+http://DB.example.com/#a", "qdrant+http://db.example.com#a"),
        ("chroma+http://db.example.com?tenant=t&database=d#a", "chroma+http://db.example.com?database=d&tenant=t#a"),
    ],
)
def test_another_credential_or_spelling_is_the_same_place(one: str, other: str) -> None:
    assert Address.parse(one).place == Address.parse(other).place
    require_write_allowed(Address.parse(one), [other])


def test_the_place_holds_no_value_of_a_secret() -> None:
    for option in ("api_key", "token", "key", "password", "sig", "auth"):
        address = Address.parse(f"qdrant+http://db.example.com?{option}=hunter2345#a")
        assert "hunter2345" not in "".join(address.place)
        assert "hunter2345" in address.text, "who opens it needs it"
        assert "hunter2345" not in str(address)


def test_a_refusal_says_what_to_add_and_never_what_cannot_be_pasted() -> None:
    with pytest.raises(WriteRefused) as plain:
        require_write_allowed(Address.parse(FAR), [])
    assert f"--allow-writes '{FAR}'" in (plain.value.hint or "")
    with pytest.raises(WriteRefused) as masked:
        require_write_allowed(Address.parse("qdrant+http://alice@db.example.com#a"), [])
    assert "as you wrote it" in (masked.value.hint or "")
    assert "alice" not in str(masked.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("chroma:./db#a", "chroma:db/#a", True),
        ("chroma:./db#a", "chroma:./x/../db#a", True),
        ("chroma:./db#a", "qdrant:./db#a", False),
        ("chroma:./db#a", "chroma:./db#b", False),
        ("memory:one#a", "memory:one#a", True),
        ("memory:one#a", "memory:two#a", False),
        ("chroma:./db#a", "chroma+http://127.0.0.1:8000#a", False),
        ("qdrant+http://localhost:1#a", "qdrant+http://127.0.0.1:1/?api_key=env:X&metric=dot#a", True),
        ("qdrant+http://alice@h:1#a", "qdrant+http://bob@h:1#a", True),
        ("qdrant+http://h:1#a", "qdrant+http://h#a", False),
        ("chroma+http://h:1?tenant=one#a", "chroma+http://h:1?tenant=two#a", False),
    ],
)
def test_two_addresses_of_one_collection_are_known(one: str, other: str, same: bool) -> None:
    assert same_place(Address.parse(one), Address.parse(other)) is same


def test_an_address_is_read_back_from_its_text() -> None:
    for text in (
        "qdrant+http://alice@db.example.com:6333/p?api_key=env:A&metric=dot#a b",
        "chroma:./a%20b#x%0Ay",
        "memory:m#100%2541",
    ):
        assert Address.parse(Address.parse(text).text) == Address.parse(text)
    assert "\n" not in str(Address.parse("chroma:./a#x%0Ay"))
    with pytest.raises(AddressError):
        Address.parse("qdrant+http://me:word@h#a")


# ---------------------------------------------------------------- the file that keeps an interrupted move's place


def _place(source: str, target: str, state: Path | None = None) -> Path:
    with open_endpoint(source) as one, open_endpoint(target) as other:
        found = place_of(one, other, state)
        assert found is not None
        found.acknowledge(Progress())
        found.close(complete=False)
        return found.path


def test_moves_whose_addresses_only_look_alike_keep_their_places_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = "qdrant+http://{}127.0.0.1:1#a"
    paths = {_place("memory:m#a", target.format(user)) for user in ("", "alice@", "bob@")}
    assert len(paths) == 3
    for path in paths:
        text = path.read_text(encoding="ascii")
        assert "alice" not in text
        assert "bob" not in text
    with pytest.raises(UsageError, match="belongs to another transfer"):
        _place("memory:m#a", target.format("carol@"), state=_place("memory:m#a", target.format("alice@")))


def test_a_place_kept_by_an_older_version_is_taken_up_where_it_is_clear_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _place("memory:m#a", "qdrant+http://127.0.0.1:1?api_key=env:KEY#a")
    [first, *_] = Journal(path).entries
    assert dict(first.data) == {"source": "memory:m#a", "target": "qdrant+http://127.0.0.1:1?api_key=env:KEY#a"}


def test_a_place_kept_by_an_older_version_is_refused_where_it_is_not_clear_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exitramp.cli.place import _name

    monkeypatch.chdir(tmp_path)
    identity = {"source": "memory:m#a", "target": "qdrant+http://[secret]@127.0.0.1:1#a"}
    (tmp_path / ".exitramp").mkdir()
    old = tmp_path / ".exitramp" / _name(identity)
    with Journal(old) as journal:
        journal.append("transfer", identity)
    with pytest.raises(UsageError, match="an older version wrote it"):
        _place("memory:m#a", "qdrant+http://alice@127.0.0.1:1#a")
    with pytest.raises(UsageError, match="belongs to another transfer"):
        _place("memory:m#a", "qdrant+http://alice@127.0.0.1:1#a", state=old)


@pytest.mark.parametrize("state", ["/proc/x", "/dev/null/x", "{folder}"])
def test_a_place_that_cannot_be_written_is_told_before_anything_else_is(
    state: str, cli: Cli, name: str, tmp_path: Path
) -> None:
    fill(f"memory:{name}#articles", rows=3)
    ended = cli("copy", f"memory:{name}#articles", "qdrant:./new#articles", "--state", state.format(folder=tmp_path))
    assert ended.code == 2
    assert "--state" in ended.err
    assert not (tmp_path / "new").exists()
