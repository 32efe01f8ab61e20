"""Every error exitramp raises on purpose, and the exit code each one ends the command with.

    ExitrampError
    ├── UsageError (2)                     the user asked for something that cannot be
    │   ├── AddressError                   an address does not parse or names no adapter
    │   ├── ConfigError                    a file is wrong: names the file and the line
    │   ├── AdapterUnknown                 no adapter of that name is installed
    │   ├── DependencyMissing              an adapter's SDK is not installed: names the pip line
    │   ├── RoleUnsupported                the adapter cannot be used that way
    │   ├── CollectionMissing              the store answers, the collection is not there
    │   ├── CollectionExists               the target holds records and nobody said what to do with them
    │   ├── DataInvalid                    a record breaks a rule: names the row
    │   ├── ConsentMissing                 a lossy step was not accepted by name
    │   ├── ModelDiffers                   vectors of two embedding models would be put together
    │   ├── PathUnusable                   a path that this user may not read or write, or that is something else
    │   └── WriteRefused                   a write to an address that is not loopback was not allowed
    ├── IntegrityError (4)                 bytes are not what was written
    │   ├── DumpCorrupt                    a file of a dump is missing, changed or unreadable: names it
    │   ├── FormatUnknown                  a format version this program does not know
    │   └── JournalCorrupt                 a journal's sequence, CRC or hash chain is broken
    ├── RemoteError (5)                    a vendor or a store failed
    │   ├── StoreError
    │   │   ├── StoreUnavailable           could not reach it; worth another try
    │   │   ├── StoreTimeout               our deadline ended the call; worth another try
    │   │   ├── StoreRejected              it said no; the same call will be refused again
    │   │   │   └── RequestTooLarge        what was sent at once is more than it takes; parts of it may not be
    │   │   └── StoreProtocolError         it answered something its contract does not allow
    │   └── ModelError                     carries an `error_class` and whether to retry
    ├── SpendExceeded (5)                  a stop condition ended the run
    └── Interrupted (130)

Whether a failure is worth another try is part of its type (`retryable`), so that retrying is decided once,
in a wrapper, and never in an adapter.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INTEGRITY = 4
    REMOTE = 5
    FAULT = 70
    INTERRUPTED = 130


class ExitrampError(Exception):
    """The root. `hint` is the next step for whoever reads the message."""

    exit_code: ExitCode = ExitCode.REMOTE
    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


class UsageError(ExitrampError, ValueError):
    """The request itself is wrong."""

    exit_code = ExitCode.USAGE


class AddressError(UsageError):
    """An address does not parse."""


class ConfigError(UsageError):
    """A file is wrong; the message begins with `FILE:LINE:`."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, hint: str | None = None
    ) -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + message, hint=hint)
        self.file = file
        self.line = line


class AdapterUnknown(UsageError, LookupError):
    """No installed adapter has that name."""


class DependencyMissing(UsageError, ImportError):
    """An adapter's SDK is not installed."""

    def __init__(self, adapter: str, extra: str, *, module: str) -> None:
        super().__init__(
            f"'{adapter}' needs the Python package that provides '{module}'",
            hint=f"pip install 'exitramp[{extra}]'",
        )


class RoleUnsupported(UsageError):
    """The adapter has no such role (source, sink, search)."""


class CollectionMissing(UsageError, LookupError):
    """The store answers, but holds no collection of that name."""


class CollectionExists(UsageError):
    """The target collection is there already and holds something else than what is to be written."""


class DataInvalid(UsageError):
    """A record breaks a rule of the format; the message names the row."""


class ConsentMissing(UsageError):
    """A lossy step was not accepted by name; nothing was written."""


class ModelDiffers(UsageError):
    """Vectors of one embedding model would be added to, or asked of, a collection of another; shows both."""


class PathUnusable(UsageError):
    """A path cannot be read or written as it stands: no right to, a disk that is read only, a file in a folder's place.

    Nothing is known to be damaged, and nothing failed that might not fail again: whoever asked can mend it, or name
    another path. A disk that is full or broken is a `StoreRejected`.
    """


class WriteRefused(UsageError, PermissionError):
    """A write to an address that is not loopback without `--allow-writes`."""


class IntegrityError(ExitrampError):
    """Bytes are not what was written."""

    exit_code = ExitCode.INTEGRITY


class DumpCorrupt(IntegrityError):
    """A file of a dump is missing, changed or unreadable."""


class FormatUnknown(IntegrityError):
    """A format version that this program does not know."""


class JournalCorrupt(IntegrityError):
    """A journal's sequence, checksum or hash chain is broken."""


class RemoteError(ExitrampError):
    """A vendor or a store failed."""

    exit_code = ExitCode.REMOTE


class StoreError(RemoteError):
    """A vector store failed."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store could not be reached, or asks to be left alone for a while: `retry_after_seconds`, if it says so."""

    retryable = True

    def __init__(self, message: str, *, hint: str | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class StoreTimeout(StoreError, TimeoutError):
    """The deadline that exitramp set ended the call."""

    retryable = True


class StoreRejected(StoreError):
    """The store refused the call and will refuse it again."""


class RequestTooLarge(StoreRejected):
    """What was sent at once is more than the store, or what stands before it, takes; parts of it may be taken."""


class StoreProtocolError(StoreError):
    """The store answered something that its contract does not allow."""


class ModelError(RemoteError):
    """A model vendor failed.

    `error_class` is one of `MODEL_ERROR_CLASSES`; `retry_after_seconds` is what the vendor asked for, if it did;
    `maybe_billed` says that the vendor may have done (and billed) the work although no answer arrived.
    """

    def __init__(
        self,
        message: str,
        *,
        error_class: str,
        http_status: int | None = None,
        retry_after_seconds: float | None = None,
        maybe_billed: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        if error_class not in MODEL_ERROR_CLASSES:
            raise ValueError(f"unknown model error class {error_class!r}")
        self.error_class = error_class
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        self.maybe_billed = maybe_billed
        self.retryable = error_class in RETRYABLE_MODEL_ERRORS


MODEL_ERROR_CLASSES = frozenset(
    {
        "rate_limit",
        "quota_exhausted",
        "auth",
        "invalid_request",
        "context_length",
        "content_filter",
        "model_gone",
        "overloaded",
        "server_error",
        "timeout",
        "connection",
        "truncated",
        "malformed",
    }
)
# A quota that is used up stays used up within the life of a request, so it is not here although it is a 429.
RETRYABLE_MODEL_ERRORS = frozenset(
    {"rate_limit", "overloaded", "server_error", "timeout", "connection", "truncated", "malformed"}
)


class SpendExceeded(ExitrampError):
    """A stop condition (errors, money, minutes) ended the run before it would have been exceeded."""


class Interrupted(ExitrampError, KeyboardInterrupt):
    """The user pressed Ctrl-C; what was acknowledged is durable."""

    exit_code = ExitCode.INTERRUPTED
