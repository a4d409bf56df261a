"""Which hub is asked, and by which token: HF_ENDPOINT and HF_TOKEN, as Hugging Face's tools do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pipeline.common.errors import BadInput, Missing
from pipeline.common.foreign import shown

PUBLIC = "https://huggingface.co"
LONGEST_TOKEN = 4096  # characters; they have some forty


@dataclass(frozen=True)
class Endpoint:
    """A hub. The token is in nothing that is printed or kept."""

    url: str
    """Without a slash at its end."""
    token: str = field(default="", repr=False)

    def owns(self, url: str) -> bool:
        """True for an address of this very host."""
        try:
            return _origin(urlsplit(url)) == _origin(urlsplit(self.url))
        except ValueError:  # no address at all
            return False

    @property
    def closed(self) -> bool:
        """True where nobody on the way can read the token."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")


def endpoint() -> Endpoint:
    """The hub that the environment names, else the public one.

    Raises:
        BadInput: HF_ENDPOINT is no address, or what should be a token is none.
    """
    url = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or PUBLIC
    if not _plain(url):
        raise BadInput(
            "HF_ENDPOINT is not the address of a hub",
            f"Unset it, or give it one such as {PUBLIC}; a token belongs into HF_TOKEN.",
        )
    return Endpoint(url, _token())


def check_online() -> None:
    """Refuse to use the network where the user said not to.

    Raises:
        Missing: HF_HUB_OFFLINE is set.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "on", "yes", "true"):
        raise Missing(
            "HF_HUB_OFFLINE is set: nothing is asked of the hub",
            "Unset it for this command: HF_HUB_OFFLINE=0 specialist …",
        )


def _plain(url: str) -> bool:
    """An address without a user, a password or anything behind its path."""
    try:
        parts = urlsplit(url)
        _origin(parts)
    except ValueError:
        return False
    more = parts.username or parts.password or parts.query or parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not more


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), port


def _token() -> str:
    token = os.environ.get("HF_TOKEN", "").strip()
    where = "HF_TOKEN" if token else str(_file())
    if not token:
        try:
            with _file().open(encoding="utf-8", errors="replace") as file:
                token = file.read(LONGEST_TOKEN + 1).strip()
        except OSError:
            return ""
    if not (token.isascii() and token.isprintable()) or " " in token or len(token) > LONGEST_TOKEN:
        raise BadInput(f"{shown(where)} holds no token of the hub", "Put one there, or remove it.")
    return token


def _file() -> Path:
    """Where `hf auth login` keeps it."""
    if path := os.environ.get("HF_TOKEN_PATH"):
        return Path(path).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("HF_HOME") or Path(cache) / "huggingface"
    return Path(home).expanduser() / "token"
