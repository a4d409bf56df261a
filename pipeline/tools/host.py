"""Where the Ollama server is: OLLAMA_HOST read as Ollama reads it, and held to this machine.

Follows `Host` and `ConnectableHost` in Ollama's envconfig/config.go (0.33.0), with refusals of our
own: another machine, https, and a path, because nothing may leave this machine.
Standard library only: the set-up reads this before anything is installed.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.common.errors import BadInput

_WAY_OUT = (
    "The model and the texts stay on this machine: unset OLLAMA_HOST, or set it to 127.0.0.1:11434."
)
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # listens everywhere; a client dials


@dataclass(frozen=True)
class Address:
    """A loopback address of an Ollama server."""

    host: str = "127.0.0.1"  # an address without brackets, or localhost
    port: int = 11434

    @property
    def netloc(self) -> str:
        """`host:port`, as OLLAMA_HOST takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`, no slash at the end."""
        return f"http://{self.netloc}"

    def same(self, other: Address) -> bool:
        """True if both may be one server; `localhost` may be any loopback address."""
        hosts = {self.host, other.host}
        return self.port == other.port and (len(hosts) == 1 or "localhost" in hosts)


def address(environ: Mapping[str, str] = os.environ) -> Address:
    """The address that Ollama's own client would dial.

    Raises:
        BadInput: OLLAMA_HOST is another machine, https, has a path, an open bracket or the port 0.
    """
    value = environ.get("OLLAMA_HOST", "").strip().strip("\"'").strip()
    scheme, found, rest = value.partition("://")
    if not found:
        scheme, rest = "http", value
    if scheme != "http":
        raise BadInput(f"OLLAMA_HOST={value} is {scheme}, not a local Ollama", _WAY_OUT)
    hostport, _, path = rest.partition("/")
    if path.strip("/"):
        raise BadInput(f"OLLAMA_HOST={value} has a path: a proxy, not Ollama itself", _WAY_OUT)
    if hostport.startswith("[") and "]" not in hostport:
        raise BadInput(f"OLLAMA_HOST={value} opens a bracket and never closes it", _WAY_OUT)
    host, port = _split(hostport, 80 if found else Address.port)
    if port == 0:
        raise BadInput(f"OLLAMA_HOST={value} has the port 0, which nobody can dial", _WAY_OUT)
    return Address(_loopback(host, value), port)


def _split(hostport: str, default: int) -> tuple[str, int]:
    """Host and port as Go splits them; what is no port becomes the default, as in Ollama."""
    if hostport.startswith("["):
        host, _, port = hostport[1:].partition("]")
        port = port.removeprefix(":")
    elif hostport.count(":") > 1:  # an IPv6 address without brackets has no port
        host, port = hostport, ""
    else:
        host, _, port = hostport.partition(":")
    valid = port.isascii() and port.isdigit() and int(port) <= 65535
    return host, int(port) if valid else default


def _loopback(host: str, value: str) -> str:
    host = _ANY.get(host, host)
    if host.lower() == "localhost":
        return "localhost"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise BadInput(f"OLLAMA_HOST={value} is not on this machine", _WAY_OUT) from None
    ip = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:127.0.0.1
    if not ip.is_loopback:
        raise BadInput(f"OLLAMA_HOST={value} is not on this machine", _WAY_OUT)
    return str(ip)
