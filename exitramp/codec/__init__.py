"""What a sink cannot hold, encoded and decoded by its limits. Adapters never encode."""

from exitramp.codec.decoding import DecodingSource
from exitramp.codec.encoding import EncodingSink
from exitramp.codec.frameworks import LAYOUTS, Arrangement, arrangement
from exitramp.codec.id_map import IdMap, read_id_map
from exitramp.codec.layout import FieldLayout, Layout, lay_out
from exitramp.codec.searching import DecodingSearch
from exitramp.codec.views import View

__all__ = [
    "LAYOUTS",
    "Arrangement",
    "DecodingSearch",
    "DecodingSource",
    "EncodingSink",
    "FieldLayout",
    "IdMap",
    "Layout",
    "View",
    "arrangement",
    "lay_out",
    "read_id_map",
]
