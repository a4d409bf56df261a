"""What `specialist doctor` finds, and that it says what mends it."""

from __future__ import annotations

import json
import os
import time
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from decided import golden
from engines import InProcess
from test_origins import write_gguf

from pipeline import make as making
from pipeline.bases import families
from pipeline.bases.families.family import Family
from pipeline.cli.commands import main
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.values import digest_of_file
from pipeline.plan import Plan, Step
from pipeline.run import room
from pipeline.run.checks import base as bases
from pipeline.run.checks import likeness, machine, serving
from pipeline.run.store import Store
from pipeline.spec import spec
from pipeline.tools import smallest
from pipeline.tools.device import Device
from pipeline.tools.fake_ollama import FakeOllama
from pipeline.tools.ollama import Ollama

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def here(fake: FakeOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeOllama:
    """A user's folder, and an Ollama with one model, stored under its file's own digest."""
    fake.version, fake.stores_anew = "0.34.4", False
    monkeypatch.setenv("OLLAMA_HOST", fake.address.netloc)
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "user")
    monkeypatch.setattr(likeness, "gives_a_token", lambda base, ollama: True)
    smallest.write(tmp_path / "small")
    put(fake, "small:latest", tmp_path / "small")
    return fake


def put(fake: FakeOllama, name: str, file: Path) -> None:
    digest = digest_of_file(file)
    fake.blob(digest).write_bytes(file.read_bytes())
    fake.models[name] = {"gguf": digest, "system": "", "parameters": {}, "license": ""}


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def found(*arguments: str) -> dict[str, dict[str, str]]:
    return {one["what"]: one for one in json.loads(doctor(*arguments, "--json").stdout)}


def test_a_machine_that_is_well_is_told_so_and_nothing_stays_in_its_ollama(
    here: FakeOllama,
) -> None:
    done = doctor()
    assert done.exit_code == 0, done.output
    verdicts = {line.split()[1]: line.split()[0] for line in done.output.splitlines()}
    assert verdicts["serving"] == verdicts["ollama"] == verdicts["llama.cpp"] == "ok"
    assert list(here.models) == ["small:latest"]


def test_a_base_in_ollama_is_asked_for_one_token(here: FakeOllama) -> None:
    seen = found("--base", "small")
    assert {one["verdict"] for one in seen.values()} == {"ok"}, seen
    assert "was asked here" in seen["family"]["found"]
    assert seen["renderer"]["found"] == "the chat template that the base brings"
    assert ("POST", "/api/chat") in here.asked


def test_of_a_base_as_a_file_a_tiny_model_of_its_kind_is_asked(
    here: FakeOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "user/mine.gguf")
    line = found("--base", "./mine.gguf")["family"]
    assert (line["verdict"], "a tiny LlamaForCausalLM was asked" in line["found"]) == ("ok", True)
    monkeypatch.setattr(likeness, "gives_a_token", lambda base, ollama: False)
    line = found("--base", "./mine.gguf")["family"]
    assert (line["verdict"], line["mend"]) == ("warn", "make try-ollama VERSION=0.34.4")

    def refuse(base: object, ollama: object) -> bool:
        raise ToolFailed("error loading model: unknown architecture", "Update Ollama.")

    monkeypatch.setattr(likeness, "gives_a_token", refuse)
    line = found("--base", "./mine.gguf")["family"]
    assert (line["verdict"], line["mend"]) == ("fail", "Update Ollama.")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert "no Ollama is running here" in found("--base", "./mine.gguf")["family"]["found"]


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda f: f.architecture)
def test_a_tiny_configuration_is_of_its_family_and_small(family: Family) -> None:
    config = json.loads(golden(family).read_text())["config"] | {"num_hidden_layers": 40}
    both = len(family.attention) > 1
    pattern = ["sliding_attention" if both else "full_attention"] * 5 + ["full_attention"]
    each = {"layer_types": [*(pattern * 7)[:39], pattern[-1]], "no_rope_layers": [1] * 40}
    config |= {key: value for key, value in each.items() if key in config}
    small = likeness.shrunk(config)
    assert (small["num_hidden_layers"], small["vocab_size"]) == (8, len(smallest.pieces()))
    assert small["hidden_size"] <= config["hidden_size"]
    assert small.get("layer_types", ["full_attention"])[-1] == "full_attention"
    assert len(small.get("layer_types", [])) in (0, 8)
    left = {"model_type", "rms_norm_eps", "rope_parameters", "sliding_window"} & config.keys()
    assert {key: small[key] for key in left} == {key: config[key] for key in left}


def test_a_base_that_cannot_be_used_is_exit_code_1_and_the_way_out(here: FakeOllama) -> None:
    done = doctor("support", "--base", "nobody")
    assert done.exit_code == 1
    assert "fail  base" in done.output
    assert "ollama pull nobody" in done.output
    assert doctor("support", "--base", "nobody", "--json").exit_code == 1


def test_the_modelfiles_base_is_the_one_that_is_looked_at(here: FakeOllama) -> None:
    Path("modelfiles").mkdir()
    Path("modelfiles/support.Modelfile").write_text("FROM small\n")
    assert found("support")["base"]["found"].startswith("small: LlamaForCausalLM")


def test_a_base_without_a_template_fails_until_one_is_named(
    here: FakeOllama, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "user/bare.gguf", tokenizer__chat_template=None)
    assert found("--base", "./bare.gguf")["renderer"]["verdict"] == "fail"
    Path("modelfiles").mkdir()
    Path("modelfiles/x.toml").write_text('[fetch]\ntemplate = "chatml"\n')
    line = found("x", "--base", "./bare.gguf")["renderer"]
    assert (line["verdict"], "chatml" in line["found"]) == ("ok", True)


@pytest.mark.parametrize("fault", ["old", "refuses to register", "other render"])
def test_an_ollama_that_cannot_serve_a_specialist_fails(here: FakeOllama, fault: str) -> None:
    here.faults.add(fault)
    done = doctor()
    assert done.exit_code == 1
    assert "fail  serving" in done.output


def test_an_ollama_elsewhere_fails_and_one_that_is_stopped_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "192.0.2.1:11434")
    assert found()["ollama"]["verdict"] == "fail"
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    binary = tmp_path / "ollama"
    monkeypatch.setattr(serving.server, "startable", lambda where: binary)
    line = found()["ollama"]
    assert line["verdict"] == "warn"
    assert line["mend"] == f"OLLAMA_HOST=127.0.0.1:1 {binary} serve"


def test_a_build_of_ours_without_its_helpers_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = tmp_path / "ollama-1/bin/ollama"
    built.parent.mkdir(parents=True)
    built.touch()
    monkeypatch.setattr(serving.server, "installed", lambda: None)
    monkeypatch.setattr(serving.places, "ollama_built", lambda: built)
    assert serving.helpers().verdict == "fail"
    helper = tmp_path / "ollama-1/lib/ollama/llama-server"
    helper.parent.mkdir(parents=True)
    helper.touch(mode=0o755)
    assert serving.helpers().verdict == "ok"


def test_variables_that_matter_are_told() -> None:
    told = {"OLLAMA_GO_TEMPLATE": "1", "HTTP_PROXY": "http://x", "OLLAMA_MODELS": "/big"}
    lines = {one.what: one for one in machine.variables(told)}
    assert lines["OLLAMA_GO_TEMPLATE"].verdict == "warn"
    assert lines["HTTP_PROXY"].found == "ignored on the way to Ollama"
    assert lines["OLLAMA_MODELS"].found == "/big"
    assert list(machine.variables({})) == []


def test_packages_are_compared_with_their_pins() -> None:
    here = machine.metadata.version("click")
    elsewhere = "nothing==1.0 ; sys_platform == 'win32'\n"
    assert machine.differing(f"click=={here}\n# a remark\n{elsewhere}") == []
    assert machine.differing("click==0.1\nnothing==1.0\n") == [
        f"click {here} instead of 0.1",
        "nothing none instead of 1.0",
    ]


def test_a_clock_behind_the_newest_record_is_told(tmp_path: Path) -> None:
    record = tmp_path / "stages/fetch-1/record.json"
    record.parent.mkdir(parents=True)
    record.touch()
    assert machine.clock(tmp_path).verdict == "ok"
    os.utime(record, (time.time() + 7200,) * 2)
    line = machine.clock(tmp_path)
    assert line.verdict == "warn"
    assert "2 h 00 min behind" in line.found or "1 h 59 min behind" in line.found


def test_a_store_that_is_a_file_fails_and_one_that_others_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert machine.store(tmp_path / "file").verdict == "fail"
    (tmp_path / "store/stages").mkdir(parents=True, mode=0o755)
    (tmp_path / "store/stages").chmod(0o755)
    line = machine.store(tmp_path / "store")
    assert (line.verdict, line.mend) == ("warn", f"chmod -R go= {tmp_path}/store/stages")
    (tmp_path / "store/stages").chmod(0o700)
    assert machine.store(tmp_path / "store").verdict == "ok"


def test_weights_beyond_the_memory_fail_and_little_free_memory_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bases, "total_memory", lambda: 16_000_000_000)
    monkeypatch.setattr(bases, "available", lambda: 8_000_000_000)
    assert bases.tuning(1_000_000_000, None).verdict == "ok"
    line = bases.tuning(3_000_000_000, None)
    assert (line.verdict, line.found) == (
        "warn",
        "about 9.0 GB to tune in 16 bit, 8.0 GB free",
    )
    assert bases.tuning(9_000_000_000, None).verdict == "fail"


def test_a_disk_without_room_fails_with_both_figures(
    here: FakeOllama, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: Usage(9, 9, 1000))
    line = found("--base", "small")["disk"]
    assert line["verdict"] == "fail"
    assert "needs" in line["found"] and "are free" in line["found"]


def test_the_second_copy_of_an_older_ollama_is_counted(
    here: FakeOllama, ollama: Ollama, tmp_path: Path
) -> None:
    asked = spec.read("x", Path("modelfiles"), base="small")
    reference = bases.resolve("small", tmp_path)
    here.version = "0.33.0"
    twice = bases.disk(asked, reference, tmp_path / "store").found
    here.version = "0.34.4"
    once = bases.disk(asked, reference, tmp_path / "store").found
    assert twice != once
    assert serving.models(ollama) == here.folder.parent
    assert (serving.copies("0.34.0"), serving.copies("0.34.1-rc0"), serving.copies("1.0")) == (
        2,
        1,
        1,
    )


def look(here: FakeOllama, ollama: Ollama, folder: Path, base: str = "small") -> None:
    """What `make` asks before it begins, with everything still to be made."""
    asked = spec.read("x", Path("modelfiles"), base=base)
    steps = [
        Step(stage=name, state="runs", why="", seconds=9.0) for name in ("fetch", "tune", "pack")
    ]
    settings = {"pack": {"quantization": "F16"}}
    ahead = Plan(name="x", base=base, settings=settings, steps=steps, seconds=27.0, notes=[])
    engine = InProcess(Store(folder))
    making._check_room(asked, ahead, engine, Device("cpu", None), ollama)


def test_make_counts_the_copies_of_an_older_ollama_before_it_begins(
    here: FakeOllama, ollama: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = bases.resolve("small", tmp_path).parameters
    free = int(weights * 7)  # fetch 2, pack 2, registered 2: a second copy is too much
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: Usage(free, 0, free))
    look(here, ollama, tmp_path / "store")
    here.version = "0.33.0"
    with pytest.raises(BadInput, match="are free"):
        look(here, ollama, tmp_path / "store")


def test_make_refuses_weights_beyond_the_memory_before_it_begins(
    here: FakeOllama, ollama: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "total_memory", lambda: 1000)
    with pytest.raises(
        BadInput, match=r"the weights alone take .* this machine has 1 kB"
    ) as caught:
        look(here, ollama, tmp_path / "store")
    assert "specialist bases" in caught.value.next_step


def test_init_proposes_the_best_base_of_a_running_ollama_and_never_fails_without(
    here: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = CliRunner().invoke(main, ["init", "one"]).output.splitlines()
    assert said[-1].endswith("specialist make one --data FILE.jsonl --base small:latest")
    assert "--base" not in CliRunner().invoke(main, ["init", "two", "--base", "small"]).output
    for number, host in enumerate(("127.0.0.1:1", "192.0.2.1:11434")):
        monkeypatch.setenv("OLLAMA_HOST", host)
        done = CliRunner().invoke(main, ["init", f"none-{number}"])
        assert done.exit_code == 0
        assert done.output.splitlines()[-1].startswith("next:")
