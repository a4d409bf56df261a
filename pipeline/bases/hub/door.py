"""The door to the hub: one request, wherever it is redirected to.

The token goes to the hub's own host alone, and not over a redirect that left it. Proxies and
certificates of the environment count, as in a browser.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

from pipeline import __version__
from pipeline.bases.hub.endpoint import Endpoint
from pipeline.bases.hub.patience import Passing
from pipeline.bases.hub.refusals import AGAIN, refusal
from pipeline.bases.hub.repository import Repository
from pipeline.common.errors import BadInput, PipelineError, ToolFailed
from pipeline.common.foreign import shown

TIMEOUT = 30.0  # seconds without a byte
REDIRECTS = 5
FINE = (200, 206, 416)


class Door:
    """One repository of one hub. Use as a context manager."""

    def __init__(self, hub: Endpoint, repository: Repository) -> None:
        self.hub = hub
        self.repository = repository
        headers = {"User-Agent": f"specialist/{__version__}", "Accept-Encoding": "identity"}
        try:
            self._http = httpx.Client(timeout=TIMEOUT, headers=headers)
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
            raise BadInput(
                "the proxy or the certificates that the environment names cannot be used",
                "Look at HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and SSL_CERT_FILE.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """An answer with status 200, 206 or 416, whose body is still to be read.

        Args:
            url: on the hub's own host.

        Raises:
            Passing: another try may get it.
            PipelineError: the hub refused it.
        """
        home = self.hub.closed
        for _ in range(REDIRECTS + 1):
            home = home and self.hub.owns(url)
            mine = {"Authorization": f"Bearer {self.hub.token}"} if home and self.hub.token else {}
            with (
                _ours(url),
                self._http.stream("GET", url, headers={**(headers or {}), **mine}) as answer,
            ):
                if answer.has_redirect_location:
                    url = _next(url, answer.headers["location"])
                    continue
                if answer.status_code not in FINE:
                    raise self._refused(answer, url)
                yield answer
                return
        raise ToolFailed(f"{_host(url)} redirects in a circle", "Look at HF_ENDPOINT.")

    def _refused(self, answer: httpx.Response, url: str) -> PipelineError | Passing:
        if self.hub.owns(url):
            return refusal(answer.status_code, answer.headers, self.repository, self.hub)
        return Passing(f"{_host(url)} refused a file ({answer.status_code})", AGAIN)


def _next(url: str, location: str) -> str:
    """Where a redirect leads; out of https it leads nowhere."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        scheme, known, _ = parts.scheme, parts.hostname, parts.port  # a bad port raises
    except ValueError:
        scheme, known = "", None
    allowed = ("https",) if url.startswith("https:") else ("http", "https")
    if not known or scheme not in allowed:
        raise ToolFailed(
            f"{_host(url)} redirects to what is no https address", "Look at HF_ENDPOINT."
        )
    return target


def _host(url: str) -> str:
    """All that is shown of an address: what follows can hold a signature."""
    return shown(urlsplit(url).hostname or "the hub")


@contextmanager
def _ours(url: str) -> Iterator[None]:
    """Foreign errors become ours."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise Passing(f"nothing came from {_host(url)} for {TIMEOUT:.0f} s", AGAIN) from error
    except httpx.ConnectError as error:
        if _of_certificate(error):
            raise ToolFailed(
                f"the certificate of {_host(url)} is not one that this machine trusts",
                "Behind a company's proxy, name its certificates: SSL_CERT_FILE=…",
            ) from error
        raise Passing(
            f"no connection to {_host(url)}", f"Is there a network, or a proxy to name? {AGAIN}"
        ) from error
    except httpx.UnsupportedProtocol as error:
        raise ToolFailed(f"{_host(url)} cannot be asked", "Look at HF_ENDPOINT.") from error
    except (httpx.RequestError, httpx.StreamError) as error:
        raise Passing(f"the connection to {_host(url)} broke off", AGAIN) from error
    except httpx.InvalidURL as error:
        raise ToolFailed("an address of the hub's is none", "Look at HF_ENDPOINT.") from error


def _of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
