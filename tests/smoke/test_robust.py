"""What goes wrong on a user's machine: kills, Ctrl-C, a full disk, no network, dead proxies.

All of it runs on a tiny base in one machine (machine.py), whose first run is two runs at once. The
tests go from the first stage to the last; each needs only that first run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import pytest
from machine import MAKE, MODELFILE, Machine, ended_well, machine, wait_until

pytestmark = pytest.mark.smoke

STAGES = ("intake", "fetch", "prepare", "tune", "pack")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def first(here: Machine) -> list[str]:
    """What the first two runs printed: on an empty store, at once."""
    runs = [here.start(*MAKE), here.start(*MAKE)]
    return [ended_well(run) for run in runs]


@pytest.fixture(scope="module")
def digests(here: Machine, first: list[str]) -> dict[str, str]:
    """Content digests of what the first run made, by stage."""
    return {stage: here.digest(stage) for stage in STAGES}


def test_two_runs_at_once_make_each_stage_once(here: Machine, first: list[str]) -> None:
    waited = [out.count("another run is making this; waiting for it") for out in first]
    assert sum(waited) >= len(STAGES) - 2, first  # intake is fast, and one may be faster still
    assert {path.name.rpartition("-")[0] for path in here.store.glob("stages/*-*/")} == set(STAGES)
    assert all("tiny is ready" in out for out in first)
    assert here.tag("latest").exists()
    assert not here.candidates()
    assert here.tag("v1").exists()
    assert not here.tag("v2").exists()  # the second run found that it was released


def test_all_of_this_runs_with_the_loopback_alone(here: Machine, first: list[str]) -> None:
    if not here.inside:
        pytest.skip("this system lets its users have no network of their own")
    interfaces = subprocess.check_output([*here.inside, "cat", "/proc/net/dev"], text=True)
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]


def test_no_module_of_the_working_directory_is_imported(here: Machine, first: list[str]) -> None:
    """All commands here run in a folder with a hostile torch, json, pipeline …."""
    assert hostile.ran(here.hostile) == ""
    subprocess.run([sys.executable, "-c", "import json"], cwd=here.hostile, check=False)
    assert hostile.ran(here.hostile) == "json\n"  # they would have left a trace
    (here.hostile / "ran").unlink()


def killed(here: Machine, when: Callable[[], object]) -> None:
    """Start, SIGKILL the command alone at a moment, and see that all is quiet after it."""
    run = here.start(*MAKE)
    wait_until(when, run)
    run.kill()
    run.communicate()
    wait_until(lambda: not here.processes())
    before = here.files()
    time.sleep(1)
    assert here.files() == before


def removed(here: Machine, stage: str) -> Path:
    """Take a finished stage away; where its draft will be."""
    path = here.stage(stage)
    shutil.rmtree(path)
    return Path(f"{path}.draft")


def converting(here: Machine) -> bool:
    """True while the converter, a child of the stage's process, runs."""
    return any("pipeline.stages.fetching.outlining" in line for line in here.processes())


def made(out: str) -> list[str]:
    """The stages that a run made."""
    return [line.split()[0] for line in out.splitlines() if " done in " in line]


def test_killed_in_fetch(here: Machine, digests: dict[str, str]) -> None:
    removed(here, "fetch")
    killed(here, lambda: converting(here))
    assert made(here.run(*MAKE)) == ["fetch"]
    assert here.digest("fetch") == digests["fetch"]


def test_killed_in_prepare(here: Machine, digests: dict[str, str]) -> None:
    draft = removed(here, "prepare")
    killed(here, draft.exists)
    assert made(here.run(*MAKE)) == ["prepare"]
    assert here.digest("prepare") == digests["prepare"]


def test_stopped_and_killed_in_tune_it_goes_on_from_its_checkpoint(
    here: Machine, digests: dict[str, str]
) -> None:
    draft = removed(here, "tune")
    run = here.start(*MAKE)
    wait_until(draft.exists, run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    _, err = run.communicate()
    assert run.returncode == 130
    assert err == "\nStopped.\n  Run the same command again: it goes on where it was.\n"
    wait_until(lambda: not here.processes())
    killed(here, lambda: list(draft.glob("checkpoints/*/whole")))
    out = here.run(*MAKE)
    assert made(out) == ["tune"]
    assert "going on from step" in out
    assert "epoch 1: validation loss" not in out
    assert "epoch 4: validation loss" in out
    assert here.digest("tune") == digests["tune"]


def test_killed_in_pack(here: Machine, digests: dict[str, str]) -> None:
    draft = removed(here, "pack")
    killed(here, lambda: list(draft.glob("*model.gguf*")))
    assert made(here.run(*MAKE)) == ["pack"]
    assert here.digest("pack") == digests["pack"]


def test_killed_in_release(here: Machine, digests: dict[str, str]) -> None:
    """A changed PARAMETER: nothing is made again, the model that was there serves until the end."""
    here.modelfile(MODELFILE.replace("temperature 0", "temperature 0.5"))
    before = here.tag("latest").read_bytes()
    killed(here, here.candidates)
    assert here.tag("latest").read_bytes() == before
    out = here.run(*MAKE)
    assert made(out) == []
    assert "20 prompts equal" in out
    assert not here.candidates()
    assert here.tag("v1").read_bytes() == before
    assert here.tag("latest").read_bytes() == here.tag("v2").read_bytes() != before
    assert {stage: here.digest(stage) for stage in STAGES} == digests


def test_back_to_the_version_before_and_forth_and_proven_again(
    here: Machine, digests: dict[str, str]
) -> None:
    first, second = here.tag("v1").read_bytes(), here.tag("v2").read_bytes()
    assert "tiny serves v1 again:  " in here.run("rollback", "tiny")
    assert here.tag("latest").read_bytes() == first
    assert "tiny serves v1 as it was trained" in here.run("verify", "tiny")
    assert [line.split()[-1] for line in here.run("list", "tiny").splitlines()[1:]] == [
        "now",
        "answers",
    ]
    here.run("rollback", "tiny", "v2")
    assert here.tag("latest").read_bytes() == second
    assert "release   ready" in here.run(*MAKE)


def test_other_spellings_of_the_address_lead_to_the_same_ollama(
    here: Machine, digests: dict[str, str]
) -> None:
    port = here.address.port
    for spelled in (f":{port}", f"0.0.0.0:{port}", f"http://localhost:{port}/"):
        out = here.having(OLLAMA_HOST=spelled).run(*MAKE)
        assert "started" not in out
        assert "release   ready" in out or "20 prompts equal" in out


def test_a_changed_system_trains_again_and_the_plan_says_so(
    here: Machine, digests: dict[str, str]
) -> None:
    here.modelfile(MODELFILE.replace("Be brief.", "Be long."))
    plan = json.loads(here.run("plan", *MAKE[1:], "--json"))
    here.modelfile(MODELFILE)
    assert [(step["stage"], step["state"]) for step in plan["steps"]] == [
        ("intake", "ready"),
        ("fetch", "ready"),
        ("prepare", "runs"),
        ("tune", "runs"),
        ("pack", "runs"),
    ]
    assert [step["why"] for step in plan["steps"][2:]] == [
        "system: Be brief. → Be long.",
        "uses what prepare makes",
        "uses what tune makes",
    ]
    assert plan["seconds"] == sum(step["seconds"] for step in plan["steps"]) > 0
    assert plan["settings"]["tune"]["epochs"] == 4


def test_the_list_has_a_record_of_it(here: Machine, digests: dict[str, str]) -> None:
    (record,) = json.loads(here.run("list", "--json"))
    assert (record["name"], record["base"], record["rows"]) == ("tiny", "tiny-random", 80)
    assert (record["quantization"], record["data"]) == ("Q8_0", digests["prepare"])
    assert record["digests"]["gguf"] == digests["pack"]
    assert record["loss"] > 0
    assert record["size"] > 1e6
    assert record["when"].startswith("20")


def test_a_full_disk_is_one_error_and_no_half_directory(
    here: Machine, digests: dict[str, str]
) -> None:
    if not here.inside:
        pytest.skip("this system lets its users mount nothing")
    disk = here.folder / "small-disk"
    there = here.having(SPECIALIST_HOME=str(disk))
    full = there.start(*MAKE, "--replace")
    _, err = full.communicate()
    assert full.returncode == 1
    assert err.startswith("Error: the disk is full")
    assert len(err.strip().splitlines()) == 2
    shell = "ls {0}/stages; mount -o remount,size=99m {0}; cp -r {1}/stages/[pt]* {0}/stages"
    found = subprocess.check_output(
        [*here.inside, "sh", "-c", shell.format(disk, here.store)], text=True
    )
    left = [name for name in found.split() if not name.endswith((".lock", ".log"))]
    assert [name.partition("-")[0] for name in left] == ["intake"]
    out = there.run(*MAKE, "--replace")
    assert made(out) == ["fetch"]
    assert "20 prompts equal" in out
