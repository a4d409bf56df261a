"""OLLAMA_HOST in all its forms."""

import pytest

from pipeline.common.errors import BadInput
from pipeline.tools.host import Address, address


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ('"127.0.0.1:11435"', "http://127.0.0.1:11435"),
        (" '127.0.0.1' ", "http://127.0.0.1:11434"),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("localhost", "http://localhost:11434"),
        ("LOCALHOST:1234", "http://localhost:1234"),
        (":11500", "http://127.0.0.1:11500"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://0.0.0.0:8080/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),  # Ollama takes the scheme's port here
        ("127.0.0.1:11434/", "http://127.0.0.1:11434"),
        ("127.0.0.1:", "http://127.0.0.1:11434"),
        ("127.0.0.1:99999", "http://127.0.0.1:11434"),  # Ollama warns and takes the default
        ("127.0.0.1:abc", "http://127.0.0.1:11434"),
        ("127.3.2.1:5", "http://127.3.2.1:5"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]:11435", "http://[::1]:11435"),
        ("http://[::1]:11435", "http://[::1]:11435"),
        ("[::ffff:127.0.0.1]:1", "http://127.0.0.1:1"),
    ],
)
def test_it_is_read_as_ollama_reads_it(value: str, url: str) -> None:
    assert address({"OLLAMA_HOST": value}).url == url


@pytest.mark.parametrize(
    "value",
    [
        "https://127.0.0.1:11434",
        "tcp://127.0.0.1",
        "192.168.1.5",
        "ollama.com",
        "gpu-box:11434",
        "127.0.0.1.example.com",
        "http://user@127.0.0.1",
        "http://127.0.0.1@evil.example:80",
        "fe80::1",
        "[2001:db8::1]:11434",
        "[::ffff:10.0.0.1]",
        "http://127.0.0.1:11434/ollama",
        "127.0.0.1:0",
        "127.1",
        "[::1",
    ],
)
def test_what_is_not_surely_on_this_machine_is_refused_with_the_way_out(value: str) -> None:
    with pytest.raises(BadInput) as refused:
        address({"OLLAMA_HOST": value})
    assert value in str(refused.value)
    assert "127.0.0.1:11434" in refused.value.next_step


def test_unset_is_the_default() -> None:
    assert address({}) == Address("127.0.0.1", 11434)


def test_the_address_goes_back_into_ollama_host() -> None:
    for value in ("[::1]:7", "localhost:8", "127.0.0.1:9"):
        assert address({"OLLAMA_HOST": address({"OLLAMA_HOST": value}).netloc}).netloc == value
