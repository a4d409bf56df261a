"""Names that Ollama refuses or reserves are found before any work, with one that would do."""

from __future__ import annotations

import pytest

from pipeline.common.errors import BadInput
from pipeline.common.names import check_differs, check_name, numbered, same, version_in


@pytest.mark.parametrize("name", ["brand-voice", "_x", "Qwen2.5_ours", "a" * 80, "7b"])
def test_ollamas_names_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "why", "instead"),
    [
        ("", "empty", "brand-voice"),
        ("brand voice", "letters", "brand-voice"),
        ("-x", "in front", "x"),
        (".x", "in front", "x"),
        ("größe", "letters", "gr-e"),
        ("a" * 81, "at most 80", "a" * 80),
        ("x-cloud", "reserves", "x"),
        ("x:local", "reserves", "x"),
        ("x:cloud", "reserves", "x"),
        ("x:7b-cloud", "reserves", "x"),
        ("x:latest", "ours", "x"),
        ("acme/x", "registry", "x"),
        ("DeepSeek-R1", "changes the prompts", "my-deepseek-r1"),
        ("x@sha256", "letters", "x-sha256"),
        ("x\n", "letters", "x"),
    ],
)
def test_other_names_are_refused_with_one_that_would_do(name: str, why: str, instead: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        check_name(name)
    assert caught.value.next_step == f"Try: {instead}"
    assert check_name(instead)


def test_a_specialist_never_takes_the_name_of_its_base() -> None:
    for base in ["brand-voice", "Brand-Voice:latest", "library/brand-voice:previous"]:
        with pytest.raises(BadInput, match="its own base"):
            check_differs("brand-voice", base)
    for base in ["llama3.2:3b", "acme/brand-voice", "./brand-voice", "embedded:brand-voice"]:
        check_differs("brand-voice", base)


def test_ollama_takes_names_for_one_whatever_their_case() -> None:
    assert same("X", "x:latest")
    assert same("registry.ollama.ai/library/x:LATEST", "x")
    assert not same("x:previous", "x")
    assert not same("acme/x", "x")


def test_a_version_is_known_by_its_tag_in_any_spelling_of_the_name() -> None:
    assert numbered("Brand-Voice", 3) == "Brand-Voice:v3"
    for tag in ("brand-voice:v3", "Brand-Voice:V3", "library/brand-voice:v3"):
        assert version_in(tag, "brand-Voice") == 3
    others = ["x:v3", "a/brand-voice:v3"]
    tags = ["latest", "v", "v0", "v03", "v3b", "v20261125", "candidate-v3"]
    for tag in (*others, *(f"brand-voice:{tag}" for tag in tags)):
        assert version_in(tag, "brand-voice") is None
    assert version_in("a+b:v1", "aab") is None
