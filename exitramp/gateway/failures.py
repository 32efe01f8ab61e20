"""What went wrong, in the shape in which clients of the chat completions shape expect it, with our error class.

A client's own retries come on top of ours, so most answers forbid them (`x-should-retry: false`, which the official
clients obey): whoever could answer has been asked already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import ExitrampError, ModelError, SpendExceeded, UsageError
from exitramp.gateway.wire import Refused
from exitramp.orchestration import NotAnswered
from exitramp.secrets import redact

_STATUS: Final[Mapping[str, int]] = {
    "rate_limit": 429,
    "quota_exhausted": 429,
    "budget": 429,
    "invalid_request": 400,
    "context_length": 400,
    "content_filter": 400,
    "overloaded": 503,
    "no_stack": 503,
    "busy": 503,
    "cut_off": 503,
    "timeout": 504,
    "store_timeout": 504,
    "deadline": 504,
    "in_flight": 409,
}  # what is not here is 502: somebody behind us failed, and the client can do nothing about it
_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
}
_WORTH_ANOTHER_TRY: Final = frozenset({"rate_limit", "busy", "no_stack", "in_flight"})


@dataclass(frozen=True, slots=True)
class Failure:
    status: int
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "api_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def failure_of(error: Exception) -> Failure:
    """What a client is told of `error`. Of one that is nobody's on purpose, its type alone."""
    if isinstance(error, NotAnswered | ModelError):
        code = error.error_class
        is_open = code in _WORTH_ANOTHER_TRY or (isinstance(error, NotAnswered) and error.has_no_substitute)
        headers = {} if is_open else {"x-should-retry": "false"}
        if error.retry_after_seconds is not None:
            headers["retry-after"] = str(math.ceil(error.retry_after_seconds))
        return Failure(_STATUS.get(code, 502), code, redact(error.message), headers=headers)
    headers = {"x-should-retry": "false"}
    if isinstance(error, Refused):
        return Failure(400, "invalid_request", redact(error.message), error.param, headers)
    if isinstance(error, SpendExceeded):
        return Failure(429, "budget_exceeded", redact(str(error)), headers=headers)
    if isinstance(error, UsageError):
        return Failure(400, "invalid_request", redact(str(error)), headers=headers)
    if isinstance(error, ExitrampError):
        return Failure(502, "gateway_error", redact(str(error)), headers=headers)
    return Failure(500, "internal_error", f"the gateway failed ({type(error).__name__})", headers=headers)
