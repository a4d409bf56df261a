"""A user's mistakes: one exit code, two lines, no trace, nothing started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import commands as cli
from pipeline.common.errors import BadInput

GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Day"}]}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder; an Ollama is never reached: nothing listens on that port."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    (tmp_path / "modelfiles").mkdir()
    (tmp_path / "rows.jsonl").write_text(GOOD + "\n")
    return tmp_path


def specialist(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def make(*more: str, name: str = "support", data: str = "rows.jsonl") -> Result:
    return specialist("make", name, "--data", data, *more)


WRONG_FLAGS = {
    "a missing file": (dict(data="none.jsonl"), [], "none.jsonl: no such file"),
    "a name with a tag": (dict(name="support:v1"), [], "support:v1"),
    "a reserved name": (dict(name="x-cloud"), [], "x-cloud"),
    "the tag local": (dict(name="x:local"), [], "x:local"),
    "an unknown setting": ({}, ["--set", "tune.epoch=3"], "unknown key 'epoch'"),
    "a wrong setting": (
        {},
        ["--set", "tune.epochs=x"],
        "tune.epochs=x: Input should",
    ),
    "an unknown quantization": ({}, ["--quantize", "Q9_9"], "unknown quantization 'Q9_9'"),
    "a base that is not there": ({}, ["--base", "./nowhere"], "nowhere"),
    "an unknown embedded base": ({}, ["--base", "embedded:gpt5"], "gpt5"),
    "an empty base": ({}, ["--base", ""], "--base is empty"),
    "an empty quantization": ({}, ["--quantize", " "], "--quantize is empty"),
    "a folder that is not there": ({}, ["--modelfiles", "none"], "none does not exist"),
    "a gpu that is not there": ({}, ["--device", "cuda"], "no NVIDIA GPU"),
}


@pytest.mark.parametrize(("where", "flags", "words"), WRONG_FLAGS.values(), ids=WRONG_FLAGS.keys())
def test_a_wrong_flag_is_two_lines_and_exit_code_1(
    folder: Path, where: dict[str, str], flags: list[str], words: str
) -> None:
    if "cuda" in flags:
        from pipeline.tools import gpu

        if gpu.present():
            pytest.skip("there is a GPU here")
    done = make(*flags, **where)
    assert done.exit_code == 1, done.output
    assert words in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.strip().splitlines()) == 2
    assert "Traceback" not in done.output
    assert not list(folder.glob("**/stages/*"))


WRONG_MODELFILES = {
    "an unknown instruction": ("FROM embedded:x\nSYSTEMS hi\n", "support.Modelfile:2"),
    "an unknown parameter": ("FROM embedded:x\nPARAMETER temprature 1\n", "support.Modelfile:2"),
    "a wrong type": ("FROM embedded:x\nPARAMETER temperature hot\n", "support.Modelfile:2"),
    "a template": ("FROM embedded:x\nTEMPLATE hi\n", "support.Modelfile:2"),
    "no FROM": ("SYSTEM hi\n", "support.Modelfile"),
    "itself as base": ("FROM support\n", "support"),
}


@pytest.mark.parametrize(("text", "words"), WRONG_MODELFILES.values(), ids=WRONG_MODELFILES.keys())
def test_a_wrong_modelfile_is_named_with_its_line(folder: Path, text: str, words: str) -> None:
    (folder / "modelfiles/support.Modelfile").write_text(text)
    done = make()
    assert done.exit_code == 1, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_a_missing_option_is_exit_code_2_and_names_the_help(folder: Path) -> None:
    done = specialist("make", "support")
    assert done.exit_code == 2
    assert "--help" in done.stderr


def test_an_address_that_is_not_on_this_machine_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "192.0.2.1:11434")
    done = make()
    assert done.exit_code == 1
    assert "192.0.2.1" in done.stderr


def test_a_bug_keeps_its_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("pipeline.spec.spec.read", broken)
    done = make()
    assert isinstance(done.exception, KeyError)


def test_ctrl_c_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.spec.spec.read", stopped)
    done = make()
    assert done.exit_code == 130
    assert "goes on where it was" in done.stderr


def test_init_writes_what_make_reads_and_overwrites_nothing(folder: Path) -> None:
    from pipeline.spec import spec

    done = specialist("init", "helpdesk")
    assert done.exit_code == 0, done.output
    assert spec.read("helpdesk", folder / "modelfiles").base == spec.DEFAULT_BASE
    again = specialist("init", "helpdesk")
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_make_is_told_how_it_takes_flags(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "DATA=" not in make(data="none.jsonl").stderr
    monkeypatch.setenv("MAKELEVEL", "1")
    assert "(With make: DATA=, " in make(data="none.jsonl").stderr
    assert "DATA=" not in make(name="x-cloud").stderr  # where no flag is spoken of


def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "is a pipe or a device" in make(data="pipe").stderr


def test_a_base_said_to_init_is_the_one_that_make_finds(folder: Path) -> None:
    from pipeline.spec import spec

    (folder / "llama").mkdir()
    assert specialist("init", "helpdesk", "--base", "./llama").exit_code == 0
    read = spec.read("helpdesk", folder / "modelfiles")
    assert (read.beside / read.base).resolve() == folder / "llama"


def test_list_of_nothing_says_how_to_make_one(folder: Path) -> None:
    assert "make specialist" in specialist("list").output
    assert json.loads(specialist("list", "--json").output) == []


def test_every_shipped_modelfile_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.spec import spec

    shipped = sorted((Path(__file__).parent.parent / "modelfiles").glob("*.Modelfile"))
    assert shipped
    for path in shipped:
        try:
            spec.read(path.stem, path.parent)
        except BadInput as error:  # pragma: no cover
            raise AssertionError(path) from error


@pytest.mark.parametrize("command", [["plan"], ["make"]])
def test_a_store_that_is_a_file_is_two_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("SPECIALIST_HOME", str(folder / "file"))
    done = specialist(*command, "support", "--data", "rows.jsonl")
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_a_toml_that_is_a_folder_and_modelfiles_that_are_a_file_are_two_lines(folder: Path) -> None:
    (folder / "modelfiles/support.toml").mkdir()
    assert "support.toml" in make().stderr
    done = make("--modelfiles", "rows.jsonl")
    assert "is a file, not a folder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


@pytest.mark.parametrize("command", ["plan", "make"])
def test_json_lists_every_fault_of_a_file_and_nothing_else(folder: Path, command: str) -> None:
    bad = GOOD.replace("Day", "")
    (folder / "rows.jsonl").write_text(f"{GOOD}\n" + f"{bad}\n" * 30)
    done = specialist(command, "support", "--data", "rows.jsonl", "--json")
    assert done.exit_code == 1
    faults = json.loads(done.stdout)["errors"]
    assert [fault["line"] for fault in faults] == list(range(2, 32))
    assert faults[0] == {
        "file": "rows.jsonl",
        "line": 2,
        "what": "rows.jsonl:2: turn 2 is empty",
        "next_step": "Write its text, or leave the line out.",
    }
    text = specialist(command, "support", "--data", "rows.jsonl").stderr
    assert text.startswith("Error: 30 faults in the conversations\n")
    assert text.rstrip().endswith("… and 10 more; add --json to see all of them.")


def test_json_of_another_error_has_the_same_form(folder: Path) -> None:
    done = specialist("plan", "support", "--data", "none.jsonl", "--json")
    assert done.exit_code == 1
    (error,) = json.loads(done.stdout)["errors"]
    assert error["what"] == "none.jsonl: no such file"


@pytest.mark.parametrize(
    ("before", "after"),
    [(signal.SIG_DFL, signal.default_int_handler), (signal.SIG_IGN, signal.SIG_IGN)],
)
def test_a_closed_terminal_is_as_ctrl_c_unless_nohup_said_otherwise(before, after) -> None:
    old = signal.signal(signal.SIGHUP, before)
    try:
        CliRunner().invoke(cli.main, ["list"])
        assert signal.getsignal(signal.SIGHUP) == after
    finally:
        signal.signal(signal.SIGHUP, old)


def test_what_an_older_version_left_open_is_tightened(monkeypatch, home) -> None:
    """Not the folder that the user named, which may hold other things."""
    for folder in (home / "stages", home / "releases", home / "mine"):
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    home.chmod(0o755)
    CliRunner().invoke(cli.main, ["list"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (home, *home.iterdir())}
    assert modes == {home.name: 0o755, "stages": 0o700, "releases": 0o700, "mine": 0o755}


def test_init_writes_files_as_an_editor_would(tmp_path) -> None:
    script = 'umask 022; exec "$0" -m pipeline.cli init mine --modelfiles "$1"'
    subprocess.run(["sh", "-c", script, sys.executable, str(tmp_path / "m")], check=True)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "m").iterdir()} == {0o644}


def test_a_folder_that_is_none_is_json_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SPECIALIST_HOME", "/dev/null/x")
    (tmp_path / "rows.jsonl").write_text(GOOD + "\n")
    told = specialist("plan", "x", "--data", str(tmp_path / "rows.jsonl"), "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["errors"][0]["next_step"]


def test_a_record_with_an_odd_address_stops_no_list(home) -> None:
    golden = Path(__file__).parent / "golden/old-store/releases/tiny.json"
    (home / "releases").mkdir(parents=True)
    record = {**json.loads(golden.read_text()), "ollama": "http://example.com:11434"}
    (home / "releases/tiny.json").write_text(json.dumps(record))
    assert json.loads(specialist("list", "--json").stdout)[0]["in_ollama"] is None
    (home / "releases/tiny.json").write_text(json.dumps({**record, "loss": float("nan")}))
    told = specialist("list")
    assert told.exit_code == 1 and "tiny.json is damaged: loss" in told.output
