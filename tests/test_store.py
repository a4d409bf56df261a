"""A stage directory appears whole or not at all, made in a process that dies with its parent."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts import Base, Dataset
from pipeline.errors import BadInput
from pipeline.settings import Prepare
from pipeline.source import Source, read_source
from pipeline.stages import prepare
from pipeline.store import Store, Watcher

PLAIN = Prepare(system="", skip_long=False)


@pytest.fixture
def rows(tmp_path: Path) -> Source:
    return written(tmp_path / "rows.jsonl", 12)


def written(path: Path, count: int, answer: str = "Yes") -> Source:
    turns = [
        [{"role": "user", "content": f"Question {n}"}, {"role": "assistant", "content": answer}]
        for n in range(count)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    return read_source(path)[0]


def test_what_was_made_is_found_again(tmp_path: Path, smallest_base: Base, rows: Source) -> None:
    told: list[str] = []
    watcher = Watcher(ready=lambda s: told.append(f"{s} ready"), start=lambda s: told.append(s))
    store = Store(tmp_path, watcher=watcher)
    first = store.do(prepare.STAGE, PLAIN, smallest_base, rows)
    assert store.do(prepare.STAGE, PLAIN, smallest_base, rows) == first
    assert isinstance(first, Dataset)
    assert told == ["prepare", "prepare ready"]
    assert {path.name for path in (tmp_path / "stages").iterdir()} == {
        first.path.name,
        f"{first.path.name}.lock",
    }


def test_other_data_and_other_settings_get_directories_of_their_own(
    tmp_path: Path, smallest_base: Base, rows: Source
) -> None:
    store = Store(tmp_path)
    other = written(tmp_path / "other.jsonl", 12, "No")
    made = [
        store.do(prepare.STAGE, PLAIN, smallest_base, rows),
        store.do(prepare.STAGE, PLAIN, smallest_base, other),
        store.do(prepare.STAGE, Prepare(system="Be kind.", skip_long=False), smallest_base, rows),
    ]
    assert len({artifact.path for artifact in made}) == 3


def test_a_stages_error_arrives_as_it_was_raised_and_leaves_no_directory(
    tmp_path: Path, smallest_base: Base
) -> None:
    bad = written(tmp_path / "bad.jsonl", 12, f"Yes {smallest_base.bos_text}")
    with pytest.raises(BadInput) as error:
        Store(tmp_path).do(prepare.STAGE, PLAIN, smallest_base, bad)
    assert "bad.jsonl:1" in str(error.value)
    assert error.value.next_step
    assert not [path for path in (tmp_path / "stages").iterdir() if path.is_dir()]


def test_a_bug_keeps_its_trace(tmp_path: Path, smallest_base: Base, rows: Source) -> None:
    gone = smallest_base.model_copy(update={"path": tmp_path / "gone"})
    with pytest.raises(RuntimeError, match=r"Traceback[\s\S]*prepare\.py"):
        Store(tmp_path).do(prepare.STAGE, PLAIN, gone, rows)


def test_a_half_made_directory_is_not_taken_for_a_whole_one(
    tmp_path: Path, smallest_base: Base, rows: Source
) -> None:
    store = Store(tmp_path)
    key = prepare.STAGE.key(PLAIN, smallest_base, rows)
    draft = Path(f"{store.path(prepare.STAGE, key)}.draft")
    draft.mkdir(parents=True)
    (draft / "train.jsonl").write_text("half")
    made = store.do(prepare.STAGE, PLAIN, smallest_base, rows)
    assert "half" not in (made.path / "train.jsonl").read_text()
    assert not draft.exists()


def test_the_child_dies_with_a_killed_parent(tmp_path: Path, smallest_base: Base) -> None:
    many = written(tmp_path / "many.jsonl", 20_000)
    job = (
        "import sys; from pipeline.store import Store; from pipeline.stages import prepare;"
        "from pipeline.settings import Prepare; from pipeline.artifacts import Base;"
        "from pipeline.source import Source; from pathlib import Path;"
        "Store(Path(sys.argv[1])).do(prepare.STAGE, Prepare(system='', skip_long=False),"
        "Base.model_validate_json(sys.argv[2]), Source.model_validate_json(sys.argv[3]))"
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


def test_sweep_keeps_what_is_named_and_what_is_being_made(
    tmp_path: Path, smallest_base: Base, rows: Source
) -> None:
    store = Store(tmp_path)
    kept = store.do(prepare.STAGE, PLAIN, smallest_base, rows)
    dropped = store.do(prepare.STAGE, Prepare(system="Hi.", skip_long=False), smallest_base, rows)
    assert [name for name, _ in store.sweep({kept.path.name}, dry_run=True)] == [dropped.path.name]
    assert dropped.path.exists()
    store.sweep({kept.path.name})
    assert kept.path.exists()
    assert not dropped.path.exists()


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
    tmp_path: Path, smallest_base: Base, rows: Source
) -> None:
    store = Store(tmp_path)
    first = store.do(prepare.STAGE, PLAIN, smallest_base, rows)
    (first.path / "record.json").write_text("")
    assert list(store.records(prepare.STAGE)) == []
    assert store.do(prepare.STAGE, PLAIN, smallest_base, rows) == first
