"""What a dump says that it holds, held against what it gave: its files may all be whole and tell different things."""

from __future__ import annotations

from exitramp.digests import CollectionDigests
from exitramp.dump.manifest import read_manifest
from exitramp.dump.server import dump_folder
from exitramp.errors import DumpCorrupt
from exitramp.wrappers import Endpoint


def promised_digests(endpoint: Endpoint) -> CollectionDigests | None:
    """The digests in a dump's manifest; None for a store, which promises nothing, and for a dump that is not read whole
    and as it is."""
    if endpoint.namespaces is not None or endpoint.ids is not None or endpoint.arrangement is not None:
        return None
    return read_manifest(dump_folder(endpoint.address)).digests if endpoint.address.scheme == "dump" else None


def require_promised(endpoint: Endpoint, found: CollectionDigests) -> None:
    """Raises `DumpCorrupt` where `endpoint` is a dump and a whole scan of it gave something else than `found`."""
    promised = promised_digests(endpoint)
    if promised is not None and promised.differences(found):
        folder = dump_folder(endpoint.address)
        raise DumpCorrupt(
            f"{folder} gave other records than its manifest promises",
            hint=f"exitramp verify {folder} tells what is wrong",
        )
