"""What the kernel asks of a vendor: roles, each small, each a contract that states counts and errors.

An adapter is one file that implements the roles it can. It gets and gives canonical text and Arrow columns, and it
never retries, waits, meters, encodes or hides anything: that is done around it (`exitramp.wrappers`,
`exitramp.codec`). SDK errors are translated inside the adapter, once, into `exitramp.errors`.
"""

from exitramp.ports.chat import (
    ChatAnswer,
    ChatDelta,
    ChatMessage,
    ChatModel,
    ChatRequest,
    ModelIdentity,
    ResponseFormat,
    TellsRefusals,
    ToolCall,
    ToolSpec,
)
from exitramp.ports.embedding import Embedded, Embedder, EmbedderLimits, Purpose, batches_of, check_texts, embed_all
from exitramp.ports.models import ModelAdapter
from exitramp.ports.reading import (
    CURSOR_VERSION,
    Cursor,
    Origin,
    Page,
    Partition,
    StoreIdentity,
    VectorSource,
    make_cursor,
    read_cursor,
)
from exitramp.ports.reranking import Reranked, Reranker
from exitramp.ports.searching import (
    DEFAULT_SETTINGS,
    Hits,
    IndexCoverage,
    IndexState,
    Query,
    SearchSettings,
    TellsCoverage,
    TellsOptions,
    VectorSearch,
)
from exitramp.ports.services import Corpus, Service, ServiceAdapter, TellsItsEnd
from exitramp.ports.stores import DropsCollection, Store, StoreAdapter
from exitramp.ports.writing import (
    TAGGED_TYPES,
    DocumentRoom,
    NameRule,
    PayloadLimits,
    SinkLimits,
    TransferAccount,
    VectorSink,
    difference_of,
)

__all__ = [
    "CURSOR_VERSION",
    "DEFAULT_SETTINGS",
    "TAGGED_TYPES",
    "ChatAnswer",
    "ChatDelta",
    "ChatMessage",
    "ChatModel",
    "ChatRequest",
    "Corpus",
    "Cursor",
    "DocumentRoom",
    "DropsCollection",
    "Embedded",
    "Embedder",
    "EmbedderLimits",
    "Hits",
    "IndexCoverage",
    "IndexState",
    "ModelAdapter",
    "ModelIdentity",
    "NameRule",
    "Origin",
    "Page",
    "Partition",
    "PayloadLimits",
    "Purpose",
    "Query",
    "Reranked",
    "Reranker",
    "ResponseFormat",
    "SearchSettings",
    "Service",
    "ServiceAdapter",
    "SinkLimits",
    "Store",
    "StoreAdapter",
    "StoreIdentity",
    "TellsCoverage",
    "TellsItsEnd",
    "TellsOptions",
    "TellsRefusals",
    "ToolCall",
    "ToolSpec",
    "TransferAccount",
    "VectorSearch",
    "VectorSink",
    "VectorSource",
    "batches_of",
    "check_texts",
    "difference_of",
    "embed_all",
    "make_cursor",
    "read_cursor",
]
