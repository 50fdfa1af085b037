"""What can go wrong, one class a kind, as the service names them (`error` in its problem+json).

    SlipwayError
      ConfigurationError          the request is wrong; it changed nothing (400)
        ConflictError             a name is taken, another operation runs, … (409)
      ResourceNotFoundError       (404)
      ModelRegistryError          the registry lacks the model, or cannot be reached (502)
      DeploymentError             the model could not be brought to serve (500)
        RefusedError              a rule or a capacity forbids it; nothing was attempted (409, 507)
        DeploymentTimeoutError    it was waited for long enough; also a TimeoutError
      ExternalServiceError        a service did not do its part (502)
        UnauthorizedError         a token is missing, wrong, or may not do this (401, 403)
        RequestError              too large, too many, too slow (405, 408, 413, 429, 431)
        UnavailableError          Slipway cannot be reached, restarts, or took too long (503, 504, or no answer)
        ProtocolError             the answer was not Slipway's

All have `message` (one sentence with its causes), `causes` (outermost to root), `status_code` (None where no answer came)
and `retry_after` (seconds, or None).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx


class SlipwayError(Exception):
    """The words are joined to the message: `ExternalServiceError("mlflow", "it is down")` says "mlflow: it is down"."""

    message: str
    causes: list[str]
    status_code: int | None
    retry_after: float | None
    problem: dict[str, Any]

    def __init__(
        self,
        *words: str,
        causes: Sequence[str] = (),
        status_code: int | None = None,
        retry_after: float | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(*words)
        self.message = ": ".join(str(word) for word in words)
        self.causes = list(causes) or [self.message]
        self.status_code = status_code
        self.retry_after = retry_after
        self.problem = dict(problem or {})

    def __str__(self) -> str:
        return self.message


class ConfigurationError(SlipwayError):
    pass


class ConflictError(ConfigurationError):
    pass


class ResourceNotFoundError(SlipwayError):
    pass


class ModelRegistryError(SlipwayError):
    pass


class DeploymentError(SlipwayError):
    pass


class RefusedError(DeploymentError):
    pass


class DeploymentTimeoutError(DeploymentError, TimeoutError):
    pass


class ExternalServiceError(SlipwayError):
    pass


class UnauthorizedError(ExternalServiceError):
    pass


class RequestError(ExternalServiceError):
    pass


class UnavailableError(ExternalServiceError):
    pass


class ProtocolError(ExternalServiceError):
    pass


BY_NAME: Mapping[str, type[SlipwayError]] = {
    kind.__name__: kind
    for kind in (
        ConfigurationError,
        ConflictError,
        ResourceNotFoundError,
        ModelRegistryError,
        DeploymentError,
        RefusedError,
        ExternalServiceError,
        UnauthorizedError,
        RequestError,
        UnavailableError,
    )
}

# Where the body does not name the class: the routes of other protocols, and proxies between.
BY_STATUS: Mapping[int, type[SlipwayError]] = {
    400: ConfigurationError,
    401: UnauthorizedError,
    403: UnauthorizedError,
    404: ResourceNotFoundError,
    409: ConflictError,
    502: ExternalServiceError,
    503: UnavailableError,
    504: UnavailableError,
    507: RefusedError,
}


def class_of(name: object, status: int) -> type[SlipwayError]:
    if isinstance(name, str) and name in BY_NAME:
        return BY_NAME[name]
    return BY_STATUS.get(status, RequestError if 400 <= status < 500 else ExternalServiceError)


def from_response(response: httpx.Response) -> SlipwayError:
    """The error that an answer of 300 and above tells. Its body must have been read."""
    try:
        found = response.json()
    except ValueError:
        found = None
    body: dict[str, Any] = found if isinstance(found, dict) else {}
    inner = body.get("error")
    words = body.get("detail") or (inner.get("message") if isinstance(inner, dict) else inner) or body.get("title")
    if not isinstance(words, str) or not words:
        words = f"{response.request.method} {response.request.url.path}: {response.status_code} {response.reason_phrase}"
    causes = body.get("causes")
    return class_of(inner, response.status_code)(
        words,
        causes=[str(cause) for cause in causes] if isinstance(causes, list) else (),
        status_code=response.status_code,
        retry_after=seconds(response.headers.get("Retry-After")),
        problem=body,
    )


def from_transport(error: Exception, address: str) -> SlipwayError:
    """The error for a request that got no answer, or half of one."""
    if isinstance(error, httpx.TimeoutException):
        return UnavailableError(f"{address} did not answer in time ({type(error).__name__})")
    if isinstance(error, (httpx.RemoteProtocolError, httpx.DecodingError)):
        return UnavailableError(f"{address} broke its answer off: {error}")
    if isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL)):
        return ConfigurationError(f"{address} is no URL of a service: {error}")
    return UnavailableError(f"{address} cannot be reached: {error or type(error).__name__}")


def seconds(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
