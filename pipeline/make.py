"""What `specialist make` does, in order: look ahead, build, release."""

from __future__ import annotations

from pipeline.bases.reference import bring, resolve
from pipeline.chain import build, check, check_words, remarks, take_in
from pipeline.common.errors import BadInput
from pipeline.common.progress import Progress, Shown
from pipeline.common.words import duration
from pipeline.going_live import release
from pipeline.intake.source import Source
from pipeline.made.artifacts import Specialist
from pipeline.made.conversations import Conversations
from pipeline.plan import Plan, plan
from pipeline.release import publish
from pipeline.run import room
from pipeline.run.checks import serving
from pipeline.run.checks.base import tuning
from pipeline.run.child_process import ChildProcess
from pipeline.run.engine import Engine, Watcher
from pipeline.run.store import Store
from pipeline.spec.spec import Spec
from pipeline.stages.preparing.telling import counted
from pipeline.tools import server
from pipeline.tools.capable import capable
from pipeline.tools.device import Device
from pipeline.tools.host import Address
from pipeline.tools.ollama import Ollama

LONG = 2 * 3600  # seconds of a run on a CPU, from which on a GPU is named


def make(
    asked: Spec,
    source: Source,
    device: Device,
    shown: Shown,
    watcher: Watcher,
    *,
    replace: bool = False,
    download: bool = False,
    because: str = "",
) -> tuple[Specialist, Address]:
    """Train, register and prove; what was made before is not made again.

    Args:
        watcher: told how the stages go.
        replace: take the name even if another model has it.
        download: a base of the hub that is not here may be downloaded.
        because: why it is served even if it is not better; '' where it is not.

    Returns: what is served now, and where.

    Raises:
        PipelineError: what cannot be done. NAME serves what it served before.
    """
    store = Store()
    with store.lease():
        engine = ChildProcess(store, watcher, device=device.device)
        rows = look_at(asked, source, engine, shown, download=download)
        address = server.ensure(lambda line: shown.say("ollama", line))
        with Ollama(address) as ollama:
            publish.settle(
                asked.name, ollama, lambda line: shown.say("release", line), replace=replace
            )
            for line in remarks(asked, rows):
                shown.say("data", line)
            looked = _look_ahead(asked, source, engine, device, ollama, shown)
            made = build(asked, source, engine, device.memory)
            if publish.nothing_to_do(made, ollama, lambda line: shown.say("release", line)):
                shown.done("release", "ready")
            else:
                if not looked:
                    capable(ollama, asked.parameters)
                release(asked, made, ollama, engine, shown, replace=replace, because=because)
    return made, address


def look_at(
    asked: Spec, source: Source, engine: Engine, shown: Shown, *, download: bool
) -> Conversations:
    """The rows, once they and the base are seen to be good; the base is here then.

    A download is long: it begins when nothing else can be refused.

    Raises:
        PipelineError: what cannot be used, or had.
    """

    def report(progress: Progress) -> None:
        shown.report("base", progress)

    if not download:
        check(asked, report)
        return take_in(source, engine)
    check_words(asked)
    rows = take_in(source, engine)
    done = bring(asked.base, report, lambda line: shown.say("base", line))
    check(asked, report)
    if done:
        shown.done("base", done)
    return rows


def _look_ahead(
    asked: Spec, source: Source, engine: Engine, device: Device, ollama: Ollama, shown: Shown
) -> bool:
    """Say what is to be made, once this Ollama could serve it; False if all is made."""
    ahead = plan(asked, source, engine, device.memory)
    if not ahead.seconds:
        return False
    _check_room(asked, ahead, engine, device, ollama)
    capable(ollama, asked.parameters)
    shown.say("plan", f"about {duration(ahead.seconds)}, then the release")
    if ahead.seconds > LONG and device.device == "cpu":
        shown.say("plan", "that is on this CPU; an NVIDIA GPU takes a small part of it")
    if ahead.parts:  # else prepare says it
        shown.say("plan", counted(ahead.parts))
    return True


def _check_room(asked: Spec, ahead: Plan, engine: Engine, device: Device, ollama: Ollama) -> None:
    """Refuse what would fill a disk or the memory after hours.

    Raises:
        BadInput: how much is needed, where, and how much is free.
    """
    base = resolve(asked.base, asked.beside)
    runs = {step.stage for step in ahead.steps if step.state == "runs"}
    models, copies = serving.keeps(ollama)
    room.check(
        room.needed(
            base.parameters,
            str(ahead.settings["pack"]["quantization"]).split(","),
            fetches="fetch" in runs,
            packs="pack" in runs,
            store=engine.store.home,
            models=models,
            copies=copies,
        )
    )
    memory = tuning(base.parameters, device.memory)
    if "tune" in runs and memory.verdict == "fail":
        raise BadInput(memory.found, memory.mend)
