"""Which class of error a model vendor's answer is, and what of its words may be repeated.

Read from the vendors' published error tables and from answers seen in the wild: a used-up quota comes as 429, 402 or
400, and may not be retried in any of these forms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from exitramp.backoff import parse_retry_after
from exitramp.errors import MODEL_ERROR_CLASSES, ModelError
from exitramp.secrets import redact

MESSAGE_LIMIT_CHARACTERS: Final = 200

_QUOTA_CODE = re.compile(r"insufficient_quota|billing|spend_limit|credit_balance")
_GONE_CODES = frozenset({"model_not_found", "model_decommissioned", "model_not_available"})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
_QUOTA = re.compile(
    r"(?i)credit balance|usage limits|exceeded your current quota|spend(ing)? limit|maximum billing|calls / month"
)
# Of a router in front of any model; that a model is not there is said in other words.
_NO_PATH = re.compile(r"(?i)^(invalid url|(404 )?page not found|(file )?not found\.?$)")
_CONTEXT = re.compile(r"(?i)context (length|window|size)|prompt is too long|too many tokens|maximum context")
_FILTER = re.compile(r"(?i)content (management )?policy|content filter")
_BY_TYPE: Final[Mapping[str, str]] = {
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate_limit",
    "api_error": "server_error",
    "server_error": "server_error",
    "timeout_error": "timeout",
    "authentication_error": "auth",
    "permission_error": "auth",
    "not_found_error": "model_gone",
    "invalid_request_error": "invalid_request",
    "request_too_large": "context_length",
}
_BY_STATUS: Final[Mapping[int, str]] = {
    401: "auth",
    402: "quota_exhausted",
    403: "auth",
    408: "timeout",
    409: "server_error",  # a lock or a conflict on the vendor's side; both official SDKs try again
    410: "model_gone",
    413: "context_length",
    498: "content_filter",  # Cohere's word for a deny-listed token in what was asked or answered
    499: "timeout",  # the request was cancelled on its way, and not by us: we are here to read it
    501: "invalid_request",  # waiting builds no feature
    503: "overloaded",
    529: "overloaded",
}
# Somebody in between lost patience; the model behind may have done the work.
_WORKED: Final = frozenset({408, 499, 502, 504})
_WORD = re.compile(r"\w+")
_RUN_WORDS: Final = 3


@dataclass(frozen=True, slots=True)
class SaidError:
    """What a vendor's error answer means, read by an adapter that knows its shape. Raises `ValueError` for a class that
    is none of `MODEL_ERROR_CLASSES`.

    message: the vendor's words, masked before they are shown; "" takes those that are found in the body.
    retry_after_seconds: where the body says it; None takes the headers'.
    """

    error_class: str
    message: str = ""
    retry_after_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.error_class not in MODEL_ERROR_CLASSES:
            raise ValueError(f"unknown model error class {self.error_class!r}")


@dataclass(frozen=True, slots=True)
class VendorError:
    """The `error` object of an answer: both shapes have `type` and `message`, one `code`, one `details.error_code`."""

    type: str = ""
    code: str = ""
    message: str = ""

    @classmethod
    def of(cls, data: object) -> VendorError:
        """From a parsed body; whatever is not there is empty."""
        error = _error_in(data)
        if isinstance(error, str):
            return cls(code="" if " " in error else error.lower(), message=error)
        if not isinstance(error, dict):
            return cls(message=_said_outside(data) if isinstance(data, dict) else "")
        details = error.get("details")
        code = error.get("code") or (details.get("error_code") if isinstance(details, dict) else None)
        message = error.get("message") or ""
        if isinstance(message, dict):  # a proxy that put the vendor's whole error there
            code, message = code or message.get("code"), str(message.get("message") or "")
        return cls(str(error.get("type") or "").lower(), str(code or "").lower(), str(message))


def _error_in(data: object) -> object:
    """The error of a body: under `error`, also in a list or within another one as proxies send it, under `errors` or
    `detail`, or the body itself where it has a code."""
    for _ in range(3):
        if isinstance(data, list) and data:
            data = data[0]
        if not isinstance(data, dict):
            return None
        inner = data.get("error") or data.get("errors")
        if inner is None and isinstance(data.get("detail"), dict):
            inner = data["detail"]
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if inner is None:
            return data if data.get("code") or ("message" in data and "type" in data) else None
        if not isinstance(inner, dict):
            return inner
        if not isinstance(inner.get("error"), dict):
            return inner
        data = inner
    return None


def _said_outside(data: Mapping[str, Any]) -> str:
    """What is wrong, of a body without an `error`: rerankers say `message`, or `detail`, a text or a list of them."""
    said = next((data[key] for key in ("message", "detail") if key in data), "")
    if isinstance(said, list):
        parts = [each.get("msg") if isinstance(each, dict) else each for each in said]
        return "; ".join(part for part in parts if isinstance(part, str))
    return said if isinstance(said, str) else ""


def _is_wrong_path(error: VendorError) -> bool:
    return error.code == "unknown_url" or _NO_PATH.search(error.message) is not None


def error_class_of(status: int | None, error: VendorError, headers: Mapping[str, str]) -> str:
    """One of `MODEL_ERROR_CLASSES`. `status` is None for an error inside a stream that began well."""
    codes = {error.type, error.code} | ({error.message} if " " not in error.message else set())
    if any(_QUOTA_CODE.search(code) for code in codes) or (status in (400, 429) and _QUOTA.search(error.message)):
        return "quota_exhausted"
    if status == 429:
        # Both vendors' SDKs take this header as the last word on trying again.
        return "quota_exhausted" if headers.get("x-should-retry") == "false" else "rate_limit"
    if status == 404:
        return "invalid_request" if _is_wrong_path(error) else "model_gone"
    if status is not None and status in _BY_STATUS:
        return _BY_STATUS[status]
    if codes & _GONE_CODES:
        return "model_gone"
    if error.code == "context_length_exceeded" or _CONTEXT.search(error.message):
        return "context_length"
    if codes & _FILTER_CODES or _FILTER.search(error.message):
        return "content_filter"
    if error.type == "timeout_error":
        return "timeout"  # a 504 of the vendor's own, not of something in between
    if status is None:
        return _BY_TYPE.get(error.type, "server_error")
    return "server_error" if status >= 500 else "invalid_request"


def vendor_error(
    provider: str,
    status: int | None,
    data: object,
    headers: Mapping[str, str],
    *,
    prompt: str,
    raw: str = "",
    maybe_billed: bool = False,
    said: SaidError | None = None,
) -> ModelError:
    """The error for an answer that is one. `raw` is the body where it was no JSON, `said` what the adapter read."""
    error = VendorError.of(data)
    if not error.message:
        error = replace(error, message=" ".join(raw.split()))
    found = error_class_of(status, error, headers) if said is None else said.error_class
    words = repeatable((said.message if said is not None else "") or error.message, prompt)
    wait_seconds = None if said is None else said.retry_after_seconds
    if wait_seconds is None:
        wait_seconds = parse_retry_after(headers.get("retry-after"), milliseconds=headers.get("retry-after-ms"))
    where = f"answered {status}" if status is not None else "broke off its answer with an error"
    return ModelError(
        f"{provider} {where} ({found})" + (f": {words}" if words else ""),
        error_class=found,
        http_status=status,
        retry_after_seconds=wait_seconds,
        maybe_billed=maybe_billed or status in _WORKED,
        hint="check base_url in the address" if status == 404 and found != "model_gone" else _HINTS.get(found),
    )


_HINTS: Final[Mapping[str, str]] = {
    "auth": "check the key that the address names with ?key=",
    "model_gone": "check the model's name in the address, and base_url",
    "quota_exhausted": "waiting does not mend this: look at the vendor's billing page",
}


def repeatable(text: str, prompt: str) -> str:
    """What may be repeated of a vendor's words: secrets masked, words of the prompt masked, at most 200 characters.

    Vendors quote the value that they did not like, and that value can be the prompt: three words in a row that stand
    in the prompt, or a long word of it, are masked.
    """
    shown = redact(" ".join(text.split()))[: 5 * MESSAGE_LIMIT_CHARACTERS]
    known = [match.lower() for match in _WORD.findall(prompt)]
    runs = {tuple(known[at : at + _RUN_WORDS]) for at in range(len(known) - _RUN_WORDS + 1)}
    long_words = {word for word in known if len(word) >= 16}
    found = list(_WORD.finditer(shown))
    words = [match.group().lower() for match in found]
    masked = {at for at, word in enumerate(words) if word in long_words}
    for at in range(len(words) - _RUN_WORDS + 1):
        if tuple(words[at : at + _RUN_WORDS]) in runs:
            masked |= set(range(at, at + _RUN_WORDS))
    if known and len(known) < _RUN_WORDS:
        masked |= {at for at, word in enumerate(words) if word in known}
    parts: list[str] = []
    end = 0
    for at, match in enumerate(found):
        if at in masked:
            if at - 1 not in masked:
                parts += [shown[end : match.start()], "[prompt]"]
            end = match.end()
    shown = "".join(parts) + shown[end:]
    return shown if len(shown) <= MESSAGE_LIMIT_CHARACTERS else shown[: MESSAGE_LIMIT_CHARACTERS - 1] + "…"
