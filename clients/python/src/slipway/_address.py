"""Where the service is, and what a connection to it needs."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpx

from . import errors

DEFAULT_URL = "http://127.0.0.1:8400"
DEFAULT_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class Address:
    """`url` as the command line takes it: http://…, https://… or unix:PATH (a control socket)."""

    url: str
    token: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    timeout: float = DEFAULT_TIMEOUT

    @property
    def socket(self) -> str | None:
        return self.url[len("unix:") :] if self.url.startswith("unix:") else None

    @property
    def base_url(self) -> str:
        return "http://localhost" if self.socket else self.url.rstrip("/")

    def options(self) -> dict[str, Any]:
        """What httpx.Client and httpx.AsyncClient take alike, but the transport."""
        url = httpx.URL(self.base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise errors.ConfigurationError(f"{self.url} is no URL of a service: http://…, https://… or unix:PATH is one")
        return {
            "base_url": self.base_url,
            "headers": {"Authorization": f"Bearer {self.token}"} if self.token else {},
            "timeout": httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0)),
            "verify": self._context() if url.scheme == "https" else False,
            # Proxies and ~/.netrc are for other machines.
            "trust_env": not (self.socket or is_loopback(url.host)),
        }

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except OSError as error:
            files = ", ".join(file for file in (self.ca_file, self.certificate_file, self.key_file) if file)
            raise errors.ConfigurationError(
                f"TLS to {self.url} with {files or 'the authorities of this machine'}: {error}"
            ) from error
        return context


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find(
    url: str | None = None,
    token: str | None = None,
    *,
    ca_file: str | None = None,
    certificate_file: str | None = None,
    key_file: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> Address:
    """What is not given comes from SLIPWAY_URL, SLIPWAY_TOKEN, SLIPWAY_CA, SLIPWAY_CERT and SLIPWAY_KEY."""
    return Address(
        url=url or os.environ.get("SLIPWAY_URL") or DEFAULT_URL,
        token=token or os.environ.get("SLIPWAY_TOKEN") or None,
        ca_file=ca_file or os.environ.get("SLIPWAY_CA") or None,
        certificate_file=certificate_file or os.environ.get("SLIPWAY_CERT") or None,
        key_file=key_file or os.environ.get("SLIPWAY_KEY") or None,
        timeout=timeout,
    )
