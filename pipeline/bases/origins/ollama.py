"""A model of the local Ollama: `llama3.2:3b`. Its GGUF is read where it lies, and never copied."""

from __future__ import annotations

import difflib
import re
import shlex
from pathlib import Path
from typing import Any

from pipeline.bases.formats import gguf
from pipeline.bases.gguf_identity import digests_of, with_more
from pipeline.bases.gguf_keys import TEMPLATE, Keys
from pipeline.bases.located import FORMS, Facts, Installed, Located, Origin, Report
from pipeline.bases.origins.gguf_file import read_once
from pipeline.bases.origins.shown_modelfile import code as code_of
from pipeline.bases.origins.shown_modelfile import files as files_of
from pipeline.common.errors import BadInput
from pipeline.common.foreign import shown
from pipeline.common.names import same
from pipeline.common.progress import Progress
from pipeline.tools import server
from pipeline.tools.blob import readable
from pipeline.tools.gguf_layout import Layout, layout
from pipeline.tools.host import Address, address
from pipeline.tools.ollama import Ollama
from pipeline.tools.wire import needed

_NAME = re.compile(r"[\w][\w./:@-]{0,350}")


def locate(text: str, beside: Path, report: Report) -> Located:
    """The model of this name.

    Raises:
        BadInput: there is none, or it is no base that can be tuned and served.
        Missing: no Ollama, or its file cannot be read from here.
    """
    if not _NAME.fullmatch(text):
        raise BadInput(f"FROM {shown(text)}: no path, and no name that Ollama could have", FORMS)
    where = _server(report)
    with Ollama(where) as ollama:
        tags = ollama.tags()
        tag = next((known for known in tags if same(known, text)), None)
        if tag is None:
            raise _unknown(text, list(tags))
        told = ollama.show(tag)
    found = _located(tag, tags[tag], told, report)
    assert found.installed
    installed = found.installed.model_copy(update={"server": where.netloc})
    return found.model_copy(update={"installed": installed})


def _server(report: Report) -> Address:
    """The Ollama that answers; one that has to be started is told."""
    if server.answers(address()):
        return server.ensure(lambda line: None)
    return server.ensure(lambda line: report(Progress(1, 1, line)))


def _unknown(text: str, tags: list[str]) -> BadInput:
    """What is missing, what is near, and how to get it: we never pull by ourselves."""
    near = difflib.get_close_matches(text, tags, n=3, cutoff=0.4)
    stem = text.partition(":")[0].rpartition("/")[2].lower()
    near += [tag for tag in tags if stem and stem in tag.lower() and tag not in near]
    has = f" It has: {', '.join(near[:5])}." if near else ""
    return BadInput(
        f"FROM {text}: Ollama has no model of this name.{has}",
        f"Get it first: ollama pull {text}",
    )


def seen(tag: str, manifest: str, told: dict[str, Any]) -> tuple[Path, Installed, Facts]:
    """What its header tells of a model: its file, what it brings, and facts.

    Args:
        told: what /api/show tells.

    Raises:
        BadInput: it is no base that can be tuned and served.
        Missing: its file cannot be read from here.
    """
    _check(tag, told)
    made_of, code = files_of(needed(told, "modelfile", str, "/api/show")), code_of(told)
    for word, what in (("ADAPTER", "a LoRA adapter"), ("DRAFT", "a model that drafts for it")):
        if word in dict(made_of):
            raise BadInput(
                f"FROM {tag}: it is a base and {what}: what is served is not what is in its file",
                "Name the model that it was made from.",
            )
    model, eyes = _parted(tag, [readable(path) for word, path in made_of if word == "FROM"])
    installed = Installed(
        tag=tag,
        manifest=manifest,
        template=_go_template(told, layout(model)),
        system=str(told.get("system") or ""),
        parameters=_parameters(str(told.get("parameters") or "")),
        messages=len(told.get("messages") or []),
        renderer=code.get("RENDERER", ""),
        parser=code.get("PARSER", ""),
        projectors={f"sha256:{digest}": path for path, digest in eyes.items()},
    )
    return model, installed, gguf.facts(model)


def _located(tag: str, manifest: str, told: dict[str, Any], report: Report) -> Located:
    model, installed, _ = seen(tag, manifest, told)  # before all of it is read for the digest
    content, files = read_once([model], report)
    named = re.fullmatch(r"sha256-([0-9a-f]{64})", model.name)
    if named and named[1] != files[model.name]:
        raise BadInput(
            f"FROM {tag}: Ollama's file of it is damaged: {model}",
            f"Get it again: ollama rm {tag}; ollama pull {tag}",
        )
    return Located(
        origin=ORIGIN.name,
        format="gguf",
        name=tag,
        digest=with_more(content, _more(installed, layout(model))),
        path=model,
        files=files,
        license=str(told.get("license") or ""),
        installed=installed,
    )


def _check(tag: str, told: dict[str, Any]) -> None:
    """Refuse what has no GGUF here."""
    if told.get("remote_model") or told.get("remote_host"):
        raise BadInput(
            f"FROM {tag}: it runs in a cloud, not on this machine: there are no weights to tune",
            "Pull a local one, for example: ollama pull llama3.2:3b",
        )
    details = told.get("details")
    form = details.get("format") if isinstance(details, dict) else None
    if form not in (None, "", "gguf"):
        raise BadInput(
            f"FROM {tag}: it is stored as {shown(form)}, not as GGUF",
            "Take a build of it in GGUF, or its Hugging Face directory: FROM ./directory",
        )


def _parted(tag: str, found: list[Path]) -> tuple[Path, dict[Path, str]]:
    """The language model, and the digests of projectors beside it."""
    models = [path for path in found if not _is_projector(path)]
    if not models:
        raise BadInput(f"FROM {tag}: it has no language model", "Name a model that answers.")
    if len(models) > 1:
        raise BadInput(
            f"FROM {tag}: it is stored in {len(models)} parts of a split GGUF",
            "Join them (llama-gguf-split --merge), then: FROM ./model.gguf",
        )
    eyes = [path for path in found if path not in models]
    return models[0], {path: digests_of([path])[path.name] for path in eyes}


def _is_projector(path: Path) -> bool:
    key = Keys(path, layout(path))
    return key.architecture == "clip" or key.whole("general.type", "") == "mmproj"


def _go_template(told: dict[str, Any], found: Layout) -> str:
    """The template in Go's language that renders its prompts; '' where the GGUF's Jinja does."""
    text = str(told.get("template") or "")
    raw = found.keys.get(TEMPLATE, b"")
    return "" if text.encode() == raw[12:] or text.strip() == "{{ .Prompt }}" else text


def _more(installed: Installed, found: Layout) -> dict[str, object]:
    """What of it decides more than the file: how prompts are written, where no Jinja says it."""
    written = {
        "template": installed.template,
        "renderer": installed.renderer,
        "parser": installed.parser,
    }
    return {
        **({} if TEMPLATE in found.keys else written),
        "projectors": sorted(installed.projectors),
    }


def _parameters(text: str) -> dict[str, str | int | float | bool | list[str]]:
    """PARAMETERs as /api/show lists them: a name and a value in a line, `stop` several times."""
    found: dict[str, str | int | float | bool | list[str]] = {}
    for line in text.splitlines():
        name, _, rest = line.strip().partition(" ")
        if not name:
            continue
        value = _value(rest.strip())
        before = found.get(name)
        if before is None:
            found[name] = [str(value)] if name == "stop" else value
        elif isinstance(before, list):
            found[name] = [*before, str(value)]
    return found


def _value(text: str) -> str | int | float | bool:
    if text.startswith('"'):
        try:
            return shlex.split(text)[0]
        except (ValueError, IndexError):
            return text
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


ORIGIN = Origin("ollama", means=lambda text: True, locate=locate)
