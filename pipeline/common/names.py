"""The names that a specialist may have: one part of a model's name in Ollama.

The grammar is Ollama's (types/model/name.go): 1 to 80 of A-Z a-z 0-9 _ - . and first none of the
last two. The rest of a full name (host, namespace, tag) is not the user's: the models of a
specialist are NAME:latest, NAME:v1, NAME:v2 … and, while it is registered, NAME:candidate-… .
"""

from __future__ import annotations

import re

from pipeline.common.errors import BadInput

LONGEST = 80
LETTERS = "bcdfghjklmnpqrstvwxz"
"""Of random tags: no digit, by which Ollama chooses renderers, and no vowel: none is a word."""
TREATED = {"deepseek-r1": "it takes <think>…</think> out of former answers"}
"""Names by which Ollama decides something (server/routes.go, filterThinkTags)."""
CANDIDATE, LATEST = "candidate", "latest"


def check_name(name: str) -> str:
    """The name, if a specialist may have it.

    Raises:
        BadInput: why not, and a name that would do.
    """
    why = _fault(name)
    if why:
        raise BadInput(f"a specialist cannot be called {name!r}: {why}", _instead(name))
    return name


def _fault(name: str) -> str:
    tag = name.rpartition(":")[2].lower() if ":" in name else ""
    if not name:
        return "the name is empty"
    if name.lower() in TREATED:
        return f"Ollama changes the prompts of a model of this name: {TREATED[name.lower()]}"
    if tag in ("local", "cloud") or tag.endswith("-cloud") or name.lower().endswith("-cloud"):
        return "Ollama reserves :local, :cloud and -cloud for telling where a model runs"
    if tag:
        return "the tag after ':' is ours (latest, v1, v2, candidate-…)"
    if "/" in name:
        return "hosts and namespaces are for models of a registry"
    if len(name) > LONGEST:
        return f"Ollama takes at most {LONGEST} characters, these are {len(name)}"
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        return "Ollama takes letters a-z, digits, '_', '-' and '.', and no '-' or '.' in front"
    return ""


def _instead(name: str) -> str:
    last = re.sub(r"[^a-z0-9_.-]+", "-", name.split(":")[0].rpartition("/")[2].lower())
    last = re.sub(r"(-cloud)+$", "", last).strip("-.")[:LONGEST].rstrip("-.")
    last = f"my-{last}" if last in TREATED else last
    return f"Try: {last or 'brand-voice'}"


def full(name: str, tag: str = LATEST) -> str:
    """`name:tag`, as Ollama lists it."""
    return f"{name}:{tag}"


def numbered(name: str, version: int) -> str:
    """`name:v3`: where Ollama keeps a version."""
    return full(name, f"v{version}")


def version_in(tag: str, name: str) -> int | None:
    """The number of a version of `name`, None if the full name `tag` is something else.

    At most six digits: what somebody calls `v20261125` by hand is no number of ours to count on.
    """
    found = re.fullmatch(rf"{re.escape(name.lower())}:v([1-9][0-9]{{0,5}})", _plain(tag))
    return int(found[1]) if found else None


def same(one: str, other: str) -> bool:
    """True if Ollama takes both for one model: the case, `:latest` and its own registry aside."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    low = re.sub(r"^(registry\.ollama\.ai/)?(library/)?", "", name.strip().lower())
    return low if ":" in low.rpartition("/")[2] else f"{low}:{LATEST}"


def check_differs(name: str, base: str) -> None:
    """A specialist may not take the name of the model that it is made from.

    Raises:
        BadInput: they are one name in Ollama, whatever the tag.
    """
    if _plain(name).partition(":")[0] == _plain(base).partition(":")[0]:
        raise BadInput(
            f"{name!r} is the name of its own base (FROM {base})",
            f"Give the specialist another name, for example {name}-tuned.",
        )
