"""The base of a specialist: readable, known, rendered by what; and what room it takes here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.bases import families
from pipeline.bases.located import Report
from pipeline.bases.reference import Reference, resolve
from pipeline.bases.survey import FOUR_BIT, memory, total_memory
from pipeline.common import places
from pipeline.common.errors import PipelineError
from pipeline.common.words import size
from pipeline.run import room
from pipeline.run.checks import likeness, serving
from pipeline.run.checks.finding import Finding, fail, ok, tried, warn
from pipeline.spec.spec import Spec
from pipeline.stages.fetching import served_base
from pipeline.stages.settings import quantization
from pipeline.tools import device, server
from pipeline.tools.ollama import Ollama

SMALLER = "specialist bases  (names the one that fits)"


def checks(spec: Spec, report: Report = lambda progress: None) -> Iterator[Finding]:
    """All of them; after a base that cannot be used there is nothing more to look at."""
    try:
        base = resolve(spec.base, spec.beside, report)
    except PipelineError as error:
        yield fail("base", error.what, error.next_step)
        return
    facts = f"{base.parameters / 1e9:.1f} B, {base.weights or '16 bit'}"
    yield ok("base", f"{spec.base}: {base.architecture}, {facts}")
    yield tried("renderer", lambda: renderer(spec, base))
    yield tried("memory", lambda: tuning(base.parameters, device.choose("auto").memory))
    yield tried("family", lambda: family(base))
    yield tried("disk", lambda: disk(spec, base, places.home()))


def renderer(spec: Spec, base: Reference) -> Finding:
    """By what its prompts are made."""
    if spec.fetch.template:
        return ok("renderer", f"the chat template {spec.fetch.template}, of ours")
    if found := served_base.forced(base):
        return ok(
            "renderer", f"Ollama's own {found['renderer']}, which this family cannot be without"
        )
    if base.own_template:
        return ok("renderer", "the chat template that the base brings")
    if found := served_base.renders(base):
        return ok("renderer", f"learnt from Ollama's {' and '.join(sorted(found))} of it")
    return fail("renderer", "the base brings no chat template", "--template plain (or chatml, …)")


def tuning(parameters: int, card: int | None) -> Finding:
    """Memory to train, against what there is; merging holds a module at a time and takes less.

    Args:
        card: bytes of the GPU's memory, None on the CPU.
    """
    wanted = memory(parameters, FOUR_BIT if card else 2.0)
    free, where = (card, "on the GPU") if card else (available(), "free")
    told = f"about {size(wanted)} to tune in {'4 bit' if card else '16 bit'}, {size(free)} {where}"
    bare = parameters * 2
    if not card and bare > total_memory():
        least = f"the weights alone take {size(bare)}, this machine has {size(total_memory())}"
        return fail("memory", least, SMALLER)
    return ok("memory", told) if wanted <= free else warn("memory", told, SMALLER)


def available(told: Path = Path("/proc/meminfo")) -> int:
    """Bytes that programs could take now; all of the memory where the kernel does not say."""
    for line in told.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return total_memory()


def family(base: Reference) -> Finding:
    """Whether this Ollama computes it: asked for a token, it or a tiny model of its kind."""
    known = families.find(base.architecture)
    if known is None:
        return fail("family", f"{base.architecture} is not supported", SMALLER)
    if base.installed is None:
        return _alike(base)
    if base.path.stat().st_size > available():
        told = f"{base.installed.tag} was not asked: {size(available())} of memory are free"
        return warn("family", told, "Close what takes the memory, and look again.")
    with Ollama(server.ensure(lambda line: None)) as ollama:
        reply = ollama.chat(base.installed.tag, [{"role": "user", "content": "Hi"}], limit=1)
        ollama.unload(base.installed.tag)
    if not reply.answer_tokens:
        return warn(
            "family", f"{base.installed.tag} gave no token", f"ollama run {base.installed.tag}"
        )
    return ok("family", f"{base.installed.tag} was asked here, and gave a token")


def _alike(base: Reference) -> Finding:
    """Of a base that Ollama does not have: a tiny random model of its configuration is asked."""
    where = serving.running()
    if not where:
        seen = f"{base.architecture} was tried with Ollama {places.OLLAMA}"
        return ok("family", f"{seen}; no Ollama is running here to be asked")
    version = server.answers(where)
    with Ollama(where) as ollama:
        if likeness.gives_a_token(base, ollama):
            return ok("family", f"a tiny {base.architecture} was asked here, and gave a token")
    told = f"a tiny {base.architecture} gives no token in Ollama {version}"
    return warn("family", told, f"make try-ollama VERSION={version}")


def disk(spec: Spec, base: Reference, store: Path) -> Finding:
    """Room for all stages and the release, as if nothing were made yet."""
    where = serving.running()
    models, copies = serving.folder(), 1
    if where:
        with Ollama(where) as ollama:
            models, copies = serving.keeps(ollama)
    types = quantization(spec.pack.quantization, base).split(",")
    wanted = room.needed(
        base.parameters, types, fetches=True, packs=True, store=store, models=models, copies=copies
    )
    room.check(wanted)
    each = ", ".join(f"{size(count)} in {folder}" for folder, count in wanted.items())
    return ok("disk", f"takes {each}: there is room")
