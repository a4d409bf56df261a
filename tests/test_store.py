"""A stage directory appears whole or not at all, made in a process that dies with its parent."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pytest
from engines import prepared
from taken_in import taken_in

from pipeline.common.errors import BadInput, OtherFormat, ToolFailed
from pipeline.made.artifacts import Base, Dataset
from pipeline.made.conversations import Conversations
from pipeline.run import child_process
from pipeline.run.child_process import ChildProcess
from pipeline.run.engine import Watcher
from pipeline.run.store import Store
from pipeline.stages import prepare
from pipeline.stages.settings import Prepare
from pipeline.tools import children
from pipeline.tools.children import OLLAMA, allowed, environment

PLAIN = Prepare(system="", skip_long=False)
OTHER = Prepare(system="Hi.", skip_long=False)
LOUD = {"PYTHONVERBOSE": "1"}


@pytest.fixture
def rows(tmp_path: Path) -> Conversations:
    return written(tmp_path / "rows.jsonl", 12)


def at(root: Path) -> ChildProcess:
    return ChildProcess(Store(root))


def lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.lock")


def written(path: Path, count: int, answer: str = "Yes") -> Conversations:
    turns = [
        [{"role": "user", "content": f"Question {n}"}, {"role": "assistant", "content": answer}]
        for n in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    return taken_in(path)


def test_what_was_made_is_found_again(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    told: list[str] = []
    watcher = Watcher(ready=lambda s: told.append(f"{s} ready"), start=lambda s: told.append(s))
    engine, later = (ChildProcess(Store(tmp_path), watcher) for _ in range(2))
    first = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows) == first
    assert later.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows) == first
    assert isinstance(first, Dataset)
    assert told == ["prepare", "prepare ready"]
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {
        first.path.name,
        f"{first.path.name}.lock",
    }


def test_other_data_and_other_settings_get_directories_of_their_own(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    engine = at(tmp_path)
    other = written(tmp_path / "other.jsonl", 12, "No")
    made = [
        engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows),
        engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=other),
        engine.do(
            prepare.STAGE,
            Prepare(system="Be kind.", skip_long=False),
            base=smallest_base,
            data=rows,
        ),
    ]
    assert len({artifact.path for artifact in made}) == 3


def test_a_bug_keeps_its_trace(tmp_path: Path, smallest_base: Base, rows: Conversations) -> None:
    gone = smallest_base.model_copy(update={"path": tmp_path / "gone"})
    with pytest.raises(RuntimeError, match=r"Traceback[\s\S]*prepare\.py"):
        at(tmp_path).do(prepare.STAGE, PLAIN, base=gone, data=rows)


def test_a_half_made_directory_is_not_taken_for_a_whole_one(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    engine = at(tmp_path)
    store = engine.store
    draft = store.path(f"{prepared(PLAIN, smallest_base, rows)}.draft")
    draft.mkdir(parents=True)
    (draft / "train.jsonl").write_text("half")
    made = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert "half" not in (made.path / "train.jsonl").read_text()
    assert not draft.exists()


def test_the_child_dies_with_a_killed_parent(tmp_path: Path, smallest_base: Base) -> None:
    many = written(tmp_path / "many.jsonl", 20_000)
    job = (
        "import sys; from pipeline.run.store import Store; from pipeline.stages import prepare;"
        "from pipeline.run.child_process import ChildProcess;"
        "from pipeline.stages.settings import Prepare; from pipeline.made.artifacts import Base;"
        "from pipeline.made.conversations import Conversations; from pathlib import Path;"
        "ChildProcess(Store(Path(sys.argv[1]))).do(prepare.STAGE,"
        "Prepare(system='', skip_long=False), base=Base.model_validate_json(sys.argv[2]),"
        "data=Conversations.model_validate_json(sys.argv[3]))"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            job,
            str(tmp_path),
            smallest_base.model_dump_json(),
            many.model_dump_json(),
        ],
        cwd=Path(__file__).parent.parent,
    )
    child = wait_for(lambda: children_of(parent.pid))[0]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or zombie(child))
    assert not list((tmp_path / "stages").glob("*/record.json"))


def test_sweep_removes_what_nothing_uses(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    engine = at(tmp_path)
    store = engine.store
    kept = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    dropped = engine.do(prepare.STAGE, OTHER, base=smallest_base, data=rows)
    used = {kept.path.name}
    assert [name for name, _ in store.sweep(lambda: used, dry_run=True)] == [dropped.path.name]
    assert dropped.path.exists()
    store.sweep(lambda: used)
    assert kept.path.exists()
    assert not dropped.path.exists()


def test_sweep_removes_nothing_that_a_run_has_found_or_is_making(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    found = at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    running, other = at(tmp_path), Store(tmp_path)
    draft = other.path(f"{prepared(OTHER, smallest_base, rows)}.draft")
    with running.store.lease():
        running.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
        assert running.store.find(Dataset, prepared(OTHER, smallest_base, rows)) is None
        draft.mkdir()
        lock_of(draft).touch()
        assert other.sweep(set) == []
        assert found.path.exists() and draft.exists()
    assert {name for name, _ in other.sweep(set)} == {found.path.name, draft.name}


def test_a_run_that_was_killed_keeps_nothing_from_sweep(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    found = at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    job = (
        "import sys, time; from pipeline.run.lease import Lease; from pathlib import Path;"
        "lease = Lease(Path(sys.argv[1])); lease.add(sys.argv[2]); print('held'); time.sleep(60)"
    )
    leases = tmp_path / "leases"
    command = [sys.executable, "-uc", job, str(leases), found.path.name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        assert Store(tmp_path).sweep(set) == []
        holder.kill()
    assert [name for name, _ in Store(tmp_path).sweep(set)] == [found.path.name]
    assert [path.name for path in leases.iterdir()] == ["turn.lock"]


def test_sweep_removes_only_directories_with_names_of_ours_and_follows_no_link(
    tmp_path: Path,
) -> None:
    """SPECIALIST_HOME may be a folder that has a `stages` of somebody else."""
    store = Store(tmp_path / "store")
    thesis = tmp_path / "thesis"
    for folder in ("my-thesis", "tune-notes", "tune-0123", "data-0123456789abcdef"):
        (store.root / folder).mkdir(parents=True)
    (store.root / "pack-0123456789abcdef").write_text("a file")
    thesis.mkdir()
    (thesis / "chapter").write_text("1")
    (store.root / "fetch-0123456789abcdef").symlink_to(thesis)
    inside = store.root / "tune-0123456789abcdef.draft"
    inside.mkdir()
    lock_of(inside).touch()
    (inside / "link").symlink_to(thesis)
    assert [name for name, _ in store.sweep(set)] == [inside.name]
    assert (thesis / "chapter").read_text() == "1"
    assert len(list(store.root.glob("*"))) == 7  # with the lock of the one that went


@pytest.mark.parametrize("damage", ["removed", "cut short", "grown"])
def test_a_stage_with_a_file_that_is_not_as_it_was_is_made_again_and_kept_until_gc(
    tmp_path: Path, smallest_base: Base, rows: Conversations, damage: str
) -> None:
    said: list[str] = []
    engine = ChildProcess(Store(tmp_path), Watcher(say=lambda stage, line: said.append(line)))
    store = engine.store
    first = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    file = first.path / "train.jsonl"
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-3] if damage == "cut short" else b"more" * 1000)
    assert store.find(Dataset, prepared(PLAIN, smallest_base, rows)) is None
    said.clear()
    assert engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows) == first
    assert said[0].startswith(f"{first.path.name} is not whole any more")
    aside = Path(f"{first.path}.damaged")
    assert aside.exists()
    assert [name for name, _ in store.sweep(lambda: {first.path.name})] == [aside.name]


def test_a_directory_of_another_format_is_an_error_and_stays(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    engine = at(tmp_path)
    store = engine.store
    made = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    record = made.path / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "format": 2}))
    with pytest.raises(OtherFormat, match="has the format 2; this specialist knows 1"):
        engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert record.exists()
    assert list(store.records(prepare.STAGE)) == []


def test_what_is_made_is_the_owners_alone(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    old = os.umask(0o022)
    try:
        at(tmp_path / "home").do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
        draft = written(tmp_path / "bad.jsonl", 12, f"Yes {smallest_base.bos_text}")
        with pytest.raises(BadInput):
            at(tmp_path / "home").do(prepare.STAGE, PLAIN, base=smallest_base, data=draft)
    finally:
        os.umask(old)
    made = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
    assert len(made) > 8
    open_ = {path.name: oct(path.stat().st_mode) for path in made if path.stat().st_mode & 0o077}
    assert open_ == {}


def test_a_child_imports_nothing_from_the_working_directory(
    tmp_path: Path, smallest_base: Base, rows: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hostile.modules(tmp_path / "hostile")
    monkeypatch.chdir(folder)
    at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert hostile.ran(folder) == ""
    subprocess.run([sys.executable, "-c", "import json"], check=False)
    assert hostile.ran(folder) == "json\n"  # it would have left a trace


def test_a_stage_knows_the_users_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would ask, or start, the one on the usual port."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:4711")
    assert environment()["OLLAMA_HOST"] == "127.0.0.1:4711"


def test_a_child_is_told_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK")
    more = ("OPENAI_API_KEY", "XDG_SOME_TOKEN", "OLLAMA_API_KEY", "LD_PRELOAD", "PYTHONSTARTUP")
    for name in (*secrets, *more):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for told in (environment(), allowed(OLLAMA)):
        assert "mine" not in told.values()
        assert told["PATH"] == os.environ["PATH"]
        assert told["LC_ALL"] == "C.UTF-8"
        assert "/somewhere" not in told.get("PYTHONPATH", "")


def test_a_child_that_prints_much_before_it_works_holds_nobody_up(
    tmp_path: Path, smallest_base: Base, rows: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself says half a megabyte here, before any line of ours runs."""
    monkeypatch.setattr(child_process, "environment", lambda more: {**environment(more), **LOUD})
    made = at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert made.rows == 12
    assert not list((tmp_path / "stages").glob("*.log"))


def test_a_child_that_cannot_begin_says_why(
    tmp_path: Path, smallest_base: Base, rows: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {"PYTHONHOME": "/nowhere"}
    monkeypatch.setattr(child_process, "environment", lambda more: {**environment(more), **nowhere})
    with pytest.raises(ToolFailed, match="prepare ended with code 1: ") as error:
        at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    log = Path(error.value.next_step.rpartition("Log: ")[2])
    assert "No module named 'encodings'" in log.read_text()


def wait_for(check, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_stage_whose_record_is_empty_after_a_power_cut_is_made_again(
    tmp_path: Path, smallest_base: Base, rows: Conversations
) -> None:
    engine = at(tmp_path)
    store = engine.store
    first = engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    (first.path / "record.json").write_text("")
    assert list(store.records(prepare.STAGE)) == []
    assert engine.do(prepare.STAGE, PLAIN, base=smallest_base, data=rows) == first
    assert Path(f"{first.path}.damaged").exists()


@pytest.mark.parametrize("what", ["dangling link", "link", "file"])
@pytest.mark.parametrize("where", ["", ".draft", ".damaged"])
def test_whatever_stands_at_a_stages_place_the_stage_is_made_and_nothing_behind_a_link_goes(
    tmp_path: Path, smallest_base: Base, rows: Conversations, what: str, where: str
) -> None:
    place = tmp_path / "stages" / f"{prepared(PLAIN, smallest_base, rows)}{where}"
    place.parent.mkdir()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("1")
    if what == "file":
        place.write_text("")
    else:
        place.symlink_to(mine if what == "link" else tmp_path / "nowhere")
    made = at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    assert made.rows == 12
    assert not made.path.is_symlink()
    assert [path.name for path in mine.iterdir()] == ["thesis"]


@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_a_record_that_is_no_file_is_a_damaged_one(
    tmp_path: Path, smallest_base: Base, rows: Conversations, kind: str
) -> None:
    first = at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows)
    record = first.path / "record.json"
    record.unlink()
    record.mkdir() if kind == "folder" else record.symlink_to(record)
    assert at(tmp_path).do(prepare.STAGE, PLAIN, base=smallest_base, data=rows) == first


def test_a_child_that_is_killed_in_the_middle_of_a_word_is_one_error(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b'{"say": "one"}\n{"error": {"kind": "BadInput", "what": "hal')
    os.close(write_end)
    said: list[str] = []
    engine = ChildProcess(Store(tmp_path), Watcher(say=lambda stage, line: said.append(line)))
    assert engine._listen("prepare", read_end) is None
    assert said == ["one"]


def test_logs_of_runs_that_failed_go_with_the_next_sweep(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.root.mkdir(parents=True)
    names = ("tune-0123456789abcdef.7-0.log", "tune-0123456789abcdef.log", "my.log")
    for name in names:
        (store.root / name).write_text("words")
    store.sweep(lambda: {"tune-0123456789abcdef"})
    assert len(list(store.root.iterdir())) == 3
    store.sweep(set)
    assert [path.name for path in store.root.iterdir()] == ["my.log"]


def test_a_module_beside_our_package_does_not_stand_for_pythons_own(tmp_path: Path) -> None:
    shutil.copytree(Path(children.__file__).parent, tmp_path / "pipeline/tools")
    (tmp_path / "pipeline/__init__.py").write_text("")
    (tmp_path / "pipeline/ask.py").write_text("import queue; print(queue.__file__)")
    (tmp_path / "queue.py").write_text("")
    job = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pipeline.tools import children;"
    job += "import subprocess; subprocess.run(children.module('pipeline.ask'), check=True)"
    run = subprocess.run(
        [sys.executable, "-S", "-c", job], check=True, capture_output=True, text=True
    )
    assert str(tmp_path) not in run.stdout and "queue" in run.stdout
