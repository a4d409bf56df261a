"""The set-up's promises, with toy steps and toy programs; `make test` itself runs the real one."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.common import places
from pipeline.common.errors import BadInput, Missing, ToolFailed
from pipeline.setup import compat, llama, needs, packages, run, sources
from pipeline.setup.progress import Progress, duration
from pipeline.setup.step import Step, Work
from pipeline.tools import server

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Places of its own; no Ollama installed or serving."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.setattr(server, "service", lambda: "")
    monkeypatch.setattr(server, "installed", lambda: None)
    monkeypatch.setattr(server, "answers", lambda where: "")
    return tmp_path


def toy(folder: Path, name: str, script: str = "", *, beside: bool = False) -> Step:
    """Makes a file by a shell script and is done when it is there."""

    def make(work: Work) -> None:
        work.child(["/bin/sh", "-c", script or "true"])
        (folder / name).touch()

    return Step(name, (folder / name).exists, make, 1, beside=beside)


def plan(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    monkeypatch.setattr(run, "plan", lambda device, tests: list(steps))


def test_only_what_is_missing_is_made_and_nothing_is_said_when_all_is_there(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (machine / "first").touch()
    plan(monkeypatch, toy(machine, "first"), toy(machine, "second"))

    run.set_up("auto")
    said = capsys.readouterr().out
    run.set_up("auto")

    assert (machine / "second").exists()
    assert "second: done" in said and "first" not in said
    assert capsys.readouterr().out == ""


def test_it_says_beforehand_how_long_it_takes(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(monkeypatch, toy(machine, "one"))
    run.set_up("auto")
    assert capsys.readouterr().out.startswith("Set-up, once per machine, about 1 s: one\n")


def test_a_failed_program_tells_its_error_its_log_and_keeps_what_was_made(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = toy(machine, "broken", "echo compiling; echo 'x.c:1: error: no such thing'; exit 3")
    plan(monkeypatch, toy(machine, "before"), broken, toy(machine, "after"))

    with pytest.raises(ToolFailed, match="no such thing") as failed:
        run.set_up("auto")

    log = re.search(r"log: (.*)", failed.value.next_step)
    assert log and "compiling" in Path(log[1]).read_text()
    assert (machine / "before").exists() and not (machine / "after").exists()


def test_a_full_disk_in_the_middle_is_a_sentence_and_not_a_trace(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(work: Work) -> None:
        raise OSError(28, "No space left on device")

    plan(monkeypatch, Step("full", lambda: False, full, 1))
    with pytest.raises(SystemExit, match="No space left on device"):
        run.main([])


def test_what_depends_on_nothing_runs_at_the_same_time(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = f"for i in $(seq 200); do [ -e {machine}/%s.here ] && exit; sleep 0.02; done; exit 1"
    meet = f"touch {machine}/%s.here; {wait}"
    first = toy(machine, "a", meet % ("a", "b"), beside=True)
    plan(monkeypatch, first, toy(machine, "b", meet % ("b", "a")))

    run.set_up("auto")

    assert (machine / "a").exists() and (machine / "b").exists()


def test_a_second_set_up_waits_and_finds_all_done(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(monkeypatch, toy(machine, "slow", f"echo once >> {machine}/count; sleep 0.4"))
    both = [threading.Thread(target=run.set_up, args=("auto", False)) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()

    assert (machine / "count").read_text() == "once\n"
    assert "waiting for it" in capsys.readouterr().out


def test_killed_it_leaves_no_program_that_goes_on_building(machine: Path) -> None:
    code = f"""
from pathlib import Path
from pipeline.setup import run
from pipeline.setup.step import Step
def make(work): work.child(["/bin/sh", "-c", "echo $$ > {machine}/pid; exec sleep 60"])
run.plan = lambda device, tests: [Step("s", lambda: False, make, 1)]
run.needs.check = lambda steps: None
run.main([])
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, cwd=ROOT, env=dict(os.environ)
    )
    note = machine / "pid"
    while not (note.exists() and note.read_text().strip()):
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    end = time.monotonic() + 5
    while Path(f"/proc/{note.read_text().strip()}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{note.read_text().strip()}").exists()


def test_what_is_missing_is_said_before_anything_is_made(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing() -> None:
        raise Missing("No working C compiler", "sudo apt install build-essential")

    last = toy(machine, "last")
    plan(monkeypatch, toy(machine, "first"), Step("last", last.done, last.run, 1, needs=(nothing,)))

    with pytest.raises(SystemExit) as refused:
        run.main([])

    assert str(refused.value) == "Error: No working C compiler\n  sudo apt install build-essential"
    assert not (machine / "first").exists()


def test_what_a_finished_step_needed_is_not_asked_again(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing() -> None:
        raise Missing("never asked")

    (machine / "old").touch()
    old = toy(machine, "old")
    plan(monkeypatch, Step("old", old.done, old.run, 1, needs=(nothing,)), toy(machine, "new"))
    run.set_up("auto")
    assert (machine / "new").exists()


def test_without_ollama_one_is_built_with_its_helpers() -> None:
    steps = {step.name: step for step in run.plan("auto")}
    assert steps["Ollama"].beside
    assert steps["llama.cpp"].seconds > llama.library().seconds


def test_where_ollama_is_installed_neither_it_nor_its_helpers_are_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "installed", lambda: Path("/usr/local/bin/ollama"))
    steps = {step.name: step for step in run.plan("auto", run.tested(True, None))}
    assert not [name for name in steps if name.startswith("Ollama")]
    assert steps["llama.cpp"].seconds == llama.library().seconds


def test_a_server_that_answers_is_enough_except_for_tests_that_start_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "answers", lambda where: "0.33.0")
    first, *_ = run.plan("auto")
    assert first.name == "Python packages"
    first, *_ = run.plan("auto", run.tested(True, None))
    assert first.name == f"Ollama {', '.join(places.OLLAMAS)}"


def test_a_new_version_of_ollama_is_built_beside_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "installed", lambda: Path("/usr/local/bin/ollama"))
    step, *_ = run.plan("auto", run.tested(True, "0.40.1"))
    assert step.name == "Ollama 0.40.1"
    with pytest.raises(BadInput, match="no version of Ollama"):
        run.tested(True, "latest; rm -rf /")


def test_only_tests_with_an_older_ollama_need_its_quantizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[tuple[str, ...]] = []
    library = llama.library
    monkeypatch.setattr(llama, "library", lambda helpers: built.append(helpers) or library(helpers))
    run.plan("auto")
    run.plan("auto", run.tested(True, None))
    assert built == [("llama-server",), ("llama-server", "llama-quantize")]


def test_libraries_without_helpers_are_not_enough_for_an_ollama_of_our_own() -> None:
    places.llama_bin().mkdir(parents=True)
    (places.llama_bin() / "libllama.so").touch()
    assert llama.library().done()
    assert not llama.library((llama.SERVER,)).done()
    places.llama_helpers().mkdir()
    (places.llama_helpers() / llama.SERVER).touch()
    assert llama.library((llama.SERVER,)).done()


def patchable(folder: Path, loader: str, clip: str = "one\ntwo\n") -> tuple[Path, Path]:
    """A toy of Ollama's compat layer and of the llama.cpp that it patches."""
    layer, tree = folder / "layer", folder / "tree"
    layer.mkdir()
    (layer / "llama-ollama-compat.cpp").write_text("int layer;\n")
    (layer / "001-llama-cpp-hooks.patch").write_text(
        "".join(
            f"diff --git a/{name} b/{name}\nindex 1..2 100644\n--- a/{name}\n+++ b/{name}\n"
            "@@ -1,2 +1,3 @@\n one\n+hook\n two\n"
            for name in compat.PATCHED
        )
    )
    for name, text in zip(compat.PATCHED, (loader, clip), strict=True):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text(text)
    return layer, tree


def test_ollamas_layer_is_put_into_copies_wherever_its_places_have_moved(machine: Path) -> None:
    layer, tree = patchable(machine, "zero\n\none\ntwo\nthree\n")
    compat.write(machine / "out", layer, tree)

    assert (machine / "out/llama-model-loader.cpp").read_text() == (
        "zero\n\none\nhook\ntwo\nthree\n"
    )
    assert (machine / "out/clip.cpp").read_text() == "one\nhook\ntwo\n"
    assert (machine / "out/llama-ollama-compat.cpp").read_text() == "int layer;\n"
    assert "hook" not in (tree / compat.PATCHED[0]).read_text()


def test_what_was_patched_before_an_interruption_is_not_compiled_again(machine: Path) -> None:
    layer, tree = patchable(machine, "one\ntwo\n")
    compat.write(machine / "out", layer, tree)
    os.utime(machine / "out/clip.cpp", (1, 1))
    compat.write(machine / "out", layer, tree)
    assert (machine / "out/clip.cpp").stat().st_mtime == 1


@pytest.mark.parametrize("loader", ["one\nand a half\ntwo\n", "one\ntwo\none\ntwo\n"])
def test_a_layer_that_does_not_fit_stops_the_set_up(machine: Path, loader: str) -> None:
    layer, tree = patchable(machine, loader)
    with pytest.raises(ToolFailed, match=r"does not fit llama\.cpp .*model-loader\.cpp has no one"):
        compat.write(machine / "out", layer, tree)
    assert not (machine / "out").exists()


def test_a_layer_that_patches_other_files_stops_the_set_up(machine: Path) -> None:
    layer, tree = patchable(machine, "one\ntwo\n")
    patch = layer / "001-llama-cpp-hooks.patch"
    patch.write_text(patch.read_text().replace("mtmd/clip.cpp", "mtmd/other.cpp"))
    with pytest.raises(ToolFailed, match="changes other files"):
        compat.write(machine / "out", layer, tree)


def test_the_libraries_that_we_load_lie_apart_from_the_patched_helpers(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by toys: with the layer everything, without it the library alone."""
    layer, _ = patchable(machine, "one\ntwo\n")
    monkeypatch.setattr(compat, "layer", lambda work: layer)
    monkeypatch.setattr(places, "llama_cpp", lambda: machine / "tree")
    monkeypatch.setattr(llama, "VENV", machine)
    toy_tools(machine / "bin")

    step = llama.library((llama.SERVER,))
    plan(monkeypatch, Step("llama.cpp", step.done, step.run, 1))
    run.set_up("auto")

    def read(path: Path) -> str:
        return path.read_text().strip()

    assert step.done()
    assert read(places.llama_bin() / "libllama.so") == "without"
    assert sorted(path.name for path in places.llama_bin().iterdir()) == ["libllama.so"]
    assert read(places.llama_helpers() / "libllama.so").endswith("build/compat")
    assert not (places.llama_bin().parent / "build").exists()


def toy_tools(folder: Path) -> None:
    """A cmake that notes the layer, and a ninja that makes of it what it is asked for."""
    folder.mkdir()
    cmake = """#!/bin/sh
for word in "$@"; do
    case $word in *build) tree=$word;; -DOLLAMA_COMPAT=*) layer=${word#*=};; esac
done
mkdir -p "$tree/bin" && echo "${layer:-without}" > "$tree/layer"
"""
    ninja = """#!/bin/sh
for word in "$@"; do
    case $word in *build) tree=$word;; llama-*) touch "$tree/bin/$word";; esac
done
cp "$tree/layer" "$tree/bin/libllama.so"
"""
    for name, text in (("cmake", cmake), ("ninja", ninja)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def test_a_stopped_service_stops_the_set_up_with_the_way_to_start_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "service", lambda: "ollama")
    with pytest.raises(Missing, match="service ollama"):
        needs.check([toy(machine, "any")])


def test_a_full_disk_is_said_with_the_sum_of_what_shares_it(machine: Path) -> None:
    with pytest.raises(Missing, match=r"needs 1500000 GB there"):
        needs.disk([(machine / "a" / "b", 0.0), (machine, 1.5e6)])
    needs.disk([(machine / "not" / "yet", 0.001)])


def test_no_compiler_or_one_without_headers_is_one_sentence(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.compiler.cache_clear()
    monkeypatch.setenv("CC", "/bin/false")
    with pytest.raises(Missing, match="No working C compiler"):
        needs.compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="No working C compiler") as refused:
        needs.compiler()
    assert refused.value.next_step == "sudo apt install build-essential"


@pytest.mark.parametrize(
    ("version", "toolchain", "enough"),
    [
        ("go1.26.0", "local", True),
        ("go1.27", "local", True),
        ("go1.26.0", "auto", True),
        ("go1.22.5", "auto", True),  # it downloads the newer one itself
        ("go1.22.5", "local", False),
        ("go1.19.8", "", False),
    ],
)
def test_go_must_be_new_enough_or_able_to_fetch_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, machine: Path, version: str, toolchain: str, enough: bool
) -> None:
    answer = f'[ "$1" = version ] && echo "go version {version} linux/amd64" || echo {toolchain}'
    program = machine / "bin" / "go"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(machine / "bin"))

    if enough:
        needs.go()
        return
    with pytest.raises(Missing, match=re.escape(version)) as refused:
        needs.go()
    assert "ollama.com/download" in refused.value.next_step


def test_an_unusable_gpu_stops_unless_the_cpu_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs.nvidia, "unusable", lambda: "The NVIDIA driver 470 is too old")
    with pytest.raises(Missing, match="470") as refused:
        needs.gpu("auto")
    assert "DEVICE=cpu" in refused.value.next_step
    needs.gpu("cpu")


def test_every_package_is_pinned_by_version_and_the_sources_by_their_bytes() -> None:
    lines = packages.REQUIREMENTS.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.match(r"[a-z0-9-]+==\S+ ;", pin) for pin in pins)
    assert not any("://" in line or line.startswith("-") for line in lines)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in sources._HASHES.values())


def test_in_a_pipe_progress_is_plain_lines() -> None:
    out = io.StringIO()
    with Progress(out) as progress:
        progress.begin("llama.cpp", 60)
        progress.at("llama.cpp", 1, 2)
        progress.end("llama.cpp")
    assert out.getvalue() == "  llama.cpp …\n  llama.cpp: done in 0 s\n"


def test_on_a_terminal_it_is_one_line_with_percent_and_time_left() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Progress(out) as progress:
        progress.begin("llama.cpp", 60)
        progress.at("llama.cpp", 1, 2)
        time.sleep(0.3)
    assert re.search(r"\r\x1b\[K  llama.cpp 50%, \d+ s left", out.getvalue())
    assert "\n" not in out.getvalue()


def test_ninjas_counter_moves_the_progress(machine: Path) -> None:
    progress = Progress(io.StringIO())
    with (machine / "lock").open("w") as lock:
        step = toy(machine, "build")
        progress.begin("build", 1)
        Work(step, progress, lock.fileno()).child(["/bin/echo", "[3/4] Building"])
    assert progress._running["build"].share == 0.75


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (190, "3 min 10 s"), (3900, "1 h 5 min")],
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_set_up_needs_only_the_standard_library() -> None:
    code = (
        "import sys; from pipeline.setup import run; from pipeline.tools import server, gpu;"
        "print([m for m in sys.modules if m.partition('.')[0] not in"
        " {*sys.stdlib_module_names, '__main__', 'pipeline'}])"
    )
    found = subprocess.run(
        [
            sys.executable,
            "-S",
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


def test_a_python_out_of_range_is_refused_in_words_that_it_can_read() -> None:
    code = (
        "import sys, os, runpy; sys.version_info = (3, 9, 2); os.environ['PATH'] = '';"
        "runpy.run_module('pipeline.setup', run_name='__main__')"
    )
    refused = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert refused.returncode == 1
    assert "this is Python 3.9; Python 3.11, 3.12 or 3.13 is needed" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_index_that_pip_was_told_is_told_to_uv_which_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "VENV", Path(sys.prefix))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    assert packages._index()["UV_DEFAULT_INDEX"] == "http://127.0.0.1:9/simple"

    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:8/simple")
    assert "UV_DEFAULT_INDEX" not in packages._index()


def test_a_new_environment_keeps_the_link_to_ollama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/ollama").symlink_to("/somewhere/ollama")  # of the step beside, which was quicker
    (venv / "bin/python").symlink_to("/gone/python")
    (venv / "lib/python3.9").mkdir(parents=True)
    monkeypatch.setattr(packages, "VENV", venv)
    packages._emptied()
    assert [path.name for path in (venv / "bin").iterdir()] == ["ollama"]
    assert not (venv / "lib").exists()


def test_a_wrong_name_or_row_is_said_before_anything_is_set_up(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    plan(monkeypatch, toy(machine, "one"))
    (machine / "rows.jsonl").write_text("{\n")
    with pytest.raises(SystemExit, match=r"rows\.jsonl:1: broken JSON at column"):
        run.main(["--name", "support", "--data", str(machine / "rows.jsonl")])
    assert not (machine / "one").exists()
    with pytest.raises(SystemExit) as ended:
        run.main(["--name", "x-cloud"])
    assert "x-cloud" in str(ended.value)
    with pytest.raises(SystemExit):
        run.main(["--device", "nonsense"])
    assert not (machine / "one").exists()
