"""Which collections there are, where an address names a store and none of them."""

from __future__ import annotations

from exitramp.cli import output
from exitramp.errors import AddressError, ExitCode
from exitramp.wording import counted
from exitramp.wrappers import Endpoint


def say_collections(endpoint: Endpoint, instead_of: AddressError, *, as_json: bool) -> int:
    """List them; raises `instead_of` where the address names one, or the store holds none."""
    address = endpoint.address
    if address.collection is not None:
        raise instead_of
    identity = endpoint.native_source().identity()
    names = sorted(identity.collections)
    if not names:
        raise instead_of
    addresses = [str(address.with_collection(name)) for name in names]
    if as_json:
        listed = [{"name": name, "address": full} for name, full in zip(names, addresses, strict=True)]
        output.emit_json({"verdict": "pass", "address": str(address), "collections": listed})
        return int(ExitCode.PASS)
    output.say(f"{address} holds {counted(len(names), 'collection')}:")
    output.say(output.table([[name, full] for name, full in zip(names, addresses, strict=True)], ("name", "address")))
    output.say(f"next: exitramp inspect '{addresses[0]}'")
    return int(ExitCode.PASS)
