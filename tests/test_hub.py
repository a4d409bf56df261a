"""A base of the hub comes once, whole and checked, however often the way breaks; no token leaks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hub_server import COMMIT, HubServer

from pipeline.bases.hub import chosen, door, download, kept, patience
from pipeline.bases.hub.endpoint import Endpoint
from pipeline.bases.hub.repository import parse
from pipeline.bases.reference import bring, resolve
from pipeline.cli import commands as cli
from pipeline.common.errors import BadInput, Missing, PipelineError, ToolFailed
from pipeline.common.progress import Progress

WEIGHTS = "model.safetensors"
TOKEN = "hf_SECRETsecretSECRET"
GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Day"}]}'


@pytest.fixture
def base(tiny_directory: Path, tmp_path: Path) -> Path:
    """A copy of the tiny directory that a test may spoil."""
    return Path(shutil.copytree(tiny_directory, tmp_path / "base"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting, no token of whoever runs the tests, no proxy on the way to loopback."""
    monkeypatch.setattr(patience, "FIRST", 0.001)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(base) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def refused(text: str = HubServer.base, kind: type[PipelineError] = PipelineError) -> str:
    """What is said where it cannot be had; never the token."""
    with pytest.raises(kind) as caught:
        bring(text)
    assert caught.value.next_step
    told = caught.value.told()
    assert TOKEN not in told
    return told


def final() -> Path:
    return kept.folder(parse(HubServer.base))


def draft() -> Path:
    return kept.draft(parse(HubServer.base))


# --- what comes, and what not


def test_a_base_of_the_hub_is_the_same_base_as_its_directory(hub: HubServer, base: Path) -> None:
    assert bring(hub.base).startswith("downloaded tiny, 5 MB, in ")
    found, other = resolve(hub.base, Path("/")), resolve(str(base), Path("/"))
    assert (found.origin, found.format, found.name) == ("hub", "huggingface", "tiny")
    assert (found.digest, found.files, found.short) == (other.digest, other.files, other.short)
    for name in found.files:
        assert (found.path / name).read_bytes() == (base / name).read_bytes()


def test_what_is_here_is_found_without_flag_network_or_token(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(hub.base)
    count = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve(hub.base, Path("/")).name == "tiny"
    assert bring(hub.base) == ""
    assert len(hub.asked) == count


def test_it_asks_for_the_tree_and_for_each_file_once(hub: HubServer) -> None:
    bring(hub.base)
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    names |= {"LICENSE", WEIGHTS}
    tree, *files = hub.paths()
    assert tree.startswith(f"/api/models/org/tiny/tree/{COMMIT}")
    assert sorted(files) == sorted(f"/org/tiny/resolve/{COMMIT}/{name}" for name in names)
    assert {path.name for path in final().iterdir()} == {*names, kept.RECORD}


def test_pickles_code_and_other_weights_are_never_taken(hub: HubServer) -> None:
    for name in ("pytorch_model.bin", "modeling.py", "consolidated.safetensors", "model.gguf"):
        hub.files[name] = b"x" * 20_000
    bring(hub.base)
    assert not [path for path in hub.paths() if path.endswith((".bin", ".py", ".gguf"))]
    assert [path for path in hub.paths() if path.endswith("safetensors")] == [
        f"/org/tiny/resolve/{COMMIT}/{WEIGHTS}"
    ]


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ("pytorch_model.bin", "only pytorch_model.bin, and a pickle can run code"),
        ("tiny-Q4_K_M.gguf", "only GGUF files (tiny-Q4_K_M.gguf)"),
        ("adapter_config.json", "it is a LoRA adapter, and no base"),
        ("flax_model.msgpack", "no model.safetensors"),
    ],
)
def test_a_repository_without_safetensors_is_refused_by_its_tree(
    hub: HubServer, instead: str, words: str
) -> None:
    del hub.files[WEIGHTS]
    hub.files[instead] = b"x"
    assert words in refused(kind=BadInput)
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T"]}}, "auto_map"),
        ("config.json", {"architectures": ["BloomForCausalLM"]}, "BloomForCausalLM"),
    ],
)
def test_what_the_words_tell_is_refused_before_the_weights_come(
    hub: HubServer, name: str, value: dict[str, object], words: str
) -> None:
    hub.files[name] = json.dumps({**json.loads(hub.files[name]), **value}).encode()
    told = refused(kind=BadInput)
    assert words in told and hub.base in told and str(kept.home()) not in told
    assert hub.sent[WEIGHTS] == 0
    assert not draft().exists()


def test_weights_in_several_files_come_as_their_index_says(
    hub: HubServer, base: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load, save

    weights = load(hub.files.pop(WEIGHTS))
    names = sorted(weights)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for name, held in parts.items():
        hub.files[name] = save({n: weights[n] for n in held}, {"format": "pt"})
    index = {n: name for name, held in parts.items() for n in held}
    hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    hub.files["model-3.safetensors"] = b"x" * 20_000
    bring(hub.base)
    assert {*parts, "model.safetensors.index.json"} < {*resolve(hub.base, Path("/")).files}
    assert hub.sent["model-3.safetensors"] == 0


def test_an_index_that_names_what_is_not_there_is_refused_before_anything_large(
    hub: HubServer,
) -> None:
    del hub.files[WEIGHTS]
    hub.files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../evil.safetensors"}}'
    assert "lacks ../../evil.safetensors" in refused(kind=BadInput)


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/evil", "sub/config.json", ".hid"])
def test_a_name_with_a_folder_in_it_is_no_file_of_ours(hub: HubServer, name: str) -> None:
    digest = {"oid": "0" * 40, "size": 3}
    hub.extra = [{"type": "file", "path": name, **digest}, {"type": "directory", "path": "sub"}]
    bring(hub.base)
    assert not [path for path in hub.paths() if "evil" in path or "sub" in path or ".hid" in path]
    assert {path.parent for path in kept.home().rglob("*")} <= {kept.home(), final()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": -1}, "the size of config.json is -1"),
        ({"size": 1 << 50}, "the size of config.json"),
        ({"size": "9"}, "the size of config.json"),
        ({"oid": "nothing"}, "config.json has no digest"),
        ({"lfs": {"oid": "a" * 64, "size": 7}}, "config.json has two sizes"),
        ({"path": WEIGHTS}, "stands in it twice"),
        ({"size": 1 << 30}, "no model's has so many"),
    ],
)
def test_a_tree_that_cannot_be_is_refused(
    hub: HubServer, change: dict[str, object], words: str
) -> None:
    entry = next(entry for entry in hub.tree() if entry["path"] == "config.json")
    del hub.files["config.json"]
    hub.extra = [{**entry, **change}]
    assert words in refused()
    assert not final().exists()


def test_a_tree_in_pages_is_read_to_its_end(hub: HubServer) -> None:
    hub.page = 2
    bring(hub.base)
    assert len([path for path in hub.paths() if "/tree/" in path]) == 3
    assert resolve(hub.base, Path("/")).name == "tiny"


def test_a_next_page_on_another_host_is_not_asked(hub: HubServer) -> None:
    hub.page, hub.next_host = 2, hub.cdn
    assert "its next page is on another host" in refused(kind=ToolFailed)
    assert not [one for one in hub.asked if one.cdn]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Link", '<http://[bad>; rel="next"', "its next page has no address"),
        ("Link", '<//127.0.0.1:99999/>; rel="next"', "its next page is on another host"),
        ("Link", '<?cursor=0>; rel="next"', "stands in it twice"),
        ("Link", "nonsense", ""),
        ("Content-Encoding", "gzip", ""),
    ],
)
def test_odd_heads_of_a_tree_are_a_sentence_or_nothing(
    hub: HubServer, name: str, value: str, words: str
) -> None:
    hub.tree_headers = {name: value}
    if words:
        assert words in refused(kind=ToolFailed)
    else:
        assert bring(hub.base).startswith("downloaded tiny")


def test_a_disk_that_is_too_small_is_told_with_figures_before_anything_comes(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = shutil.disk_usage("/")._replace(free=2_000_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: space)
    told = refused(kind=Missing)
    assert "org/tiny has 5 MB, 5 MB of it are still to come, and 2 MB are free" in told
    assert "SPECIALIST_HOME" in told
    assert len(hub.asked) == 1


# --- the way breaks


@pytest.mark.parametrize("to_cdn", [False, True], ids=["direct", "over a CDN"])
def test_a_cut_connection_goes_on_where_it_was(hub: HubServer, to_cdn: bool) -> None:
    hub.to_cdn = to_cdn
    hub.cuts[WEIGHTS] = [1_500_000, 2_000_000]
    bring(hub.base)
    assert hub.sent[WEIGHTS] == len(hub.files[WEIGHTS])
    ranges = [one.headers.get("range") for one in hub.asked if WEIGHTS in one.path]
    assert ranges[-1] == "bytes=3500000-"
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_stalled_connection_is_given_up_and_tried_again(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "TIMEOUT", 0.2)
    hub.stalls[WEIGHTS] = 2
    said: list[str] = []
    bring(hub.base, say=said.append)
    assert len(said) == 2 and said[0].startswith("nothing came from 127.0.0.1 for")
    assert hub.sent[WEIGHTS] == len(hub.files[WEIGHTS])


def test_a_connection_that_always_breaks_is_given_up_and_keeps_what_came(hub: HubServer) -> None:
    hub.cuts[WEIGHTS] = [1000] * 100
    assert "broke off" in refused(kind=ToolFailed)
    assert (draft() / f"{WEIGHTS}.part").stat().st_size == patience.TRIES * 1000
    hub.cuts.clear()
    bring(hub.base)
    assert hub.sent[WEIGHTS] == len(hub.files[WEIGHTS])
    assert not draft().exists()


def test_another_content_on_the_server_starts_the_file_anew(hub: HubServer) -> None:
    hub.etag_counts = True
    hub.cuts[WEIGHTS] = [2_000_000]
    bring(hub.base)
    assert hub.sent[WEIGHTS] == len(hub.files[WEIGHTS]) + 2_000_000
    assert [one.headers.get("if-range") for one in hub.asked if WEIGHTS in one.path][1]
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_server_that_ignores_the_etag_does_not_mix_two_contents(hub: HubServer) -> None:
    hub.etag_counts, hub.conditions = True, False
    hub.cuts[WEIGHTS] = [2_000_000]
    said: list[str] = []
    bring(hub.base, say=said.append)
    assert any("cannot be continued" in line for line in said)
    assert not any("other bytes" in line for line in said)  # seen by the ETag, not at the end
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_no_more_is_written_than_the_tree_says(hub: HubServer) -> None:
    hub.longer[WEIGHTS] = 50_000_000
    bring(hub.base)
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.sent[WEIGHTS] < 30_000_000  # we hung up


def test_a_server_without_ranges_sends_the_file_anew(hub: HubServer) -> None:
    hub.ranges = False
    hub.cuts[WEIGHTS] = [2_000_000]
    bring(hub.base)
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_way_on_which_no_try_gets_further_is_given_up(hub: HubServer) -> None:
    """A proxy that ends long answers, before a server without ranges: it would never end."""
    hub.ranges = False
    hub.cuts[WEIGHTS] = [2_000_000] * 100
    assert "broke off" in refused(kind=ToolFailed)
    assert hub.sent[WEIGHTS] == patience.TRIES * 2_000_000


def test_a_weak_etag_is_not_asked_by(hub: HubServer) -> None:
    hub.etags[WEIGHTS] = 'W/"weak"'
    hub.cuts[WEIGHTS] = [2_000_000]
    bring(hub.base)
    assert not [one for one in hub.asked if "if-range" in one.headers]
    assert hub.sent[WEIGHTS] == len(hub.files[WEIGHTS])


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])  # by sha256, and by git's sha1
def test_wrong_bytes_are_removed_and_come_again(hub: HubServer, name: str) -> None:
    hub.wrong[name] = 1
    bring(hub.base)
    assert (final() / name).read_bytes() == hub.files[name]


def test_bytes_that_are_wrong_twice_are_refused_by_name(hub: HubServer) -> None:
    hub.wrong[WEIGHTS] = 2
    assert f"{WEIGHTS} came twice with wrong bytes" in refused(kind=ToolFailed)
    assert not list(kept.home().rglob(f"{WEIGHTS}*"))
    assert not final().exists()


def test_a_part_that_was_changed_meanwhile_comes_anew(hub: HubServer) -> None:
    hub.cuts[WEIGHTS] = [2_000_000] + [0] * 100
    refused(kind=ToolFailed)
    with (draft() / f"{WEIGHTS}.part").open("r+b") as file:
        file.write(b"other bytes")
    hub.cuts.clear()
    bring(hub.base)
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize("note", ["", '{"content": "0", "etag": "x"}', "{"])
def test_a_file_in_the_draft_that_was_not_checked_is_not_kept(hub: HubServer, note: str) -> None:
    draft().mkdir(parents=True)
    other = b" " * len(hub.files["config.json"])
    (draft() / "config.json").write_bytes(other)
    (draft() / "config.json.part.json").write_text(note)
    bring(hub.base)
    assert (final() / "config.json").read_bytes() == hub.files["config.json"]


def interrupted(*_: object) -> None:
    """Ctrl-C; the signal itself is ignored where the tests run behind a shell."""
    raise KeyboardInterrupt


def test_what_was_whole_before_the_end_does_not_come_again(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(download, "_finish", interrupted)
        bring(hub.base)
    assert draft().exists() and not final().exists()
    hub.asked.clear()
    bring(hub.base)
    assert ["/tree/" in path for path in hub.paths()] == [True]
    assert resolve(hub.base, Path("/")).name == "tiny"


BRING = "import sys; from pipeline.bases.reference import bring; bring(sys.argv[1])"


def begun(hub: HubServer) -> subprocess.Popen[bytes]:
    """A run of another process."""
    return subprocess.Popen([sys.executable, "-c", BRING, hub.base])


def wait_for(what: Path, size: int) -> None:
    until = time.monotonic() + 30
    while not (what.exists() and what.stat().st_size >= size):
        assert time.monotonic() < until, f"{what} did not grow"
        time.sleep(0.01)


def test_after_kill_9_only_the_rest_comes(hub: HubServer) -> None:
    hub.pace = 0.05
    for share in (1, 2):  # killed twice
        run = begun(hub)
        wait_for(draft() / f"{WEIGHTS}.part", share * 1_000_000)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    time.sleep(0.2)  # the server sees that nobody listens
    assert not final().exists()
    kept_bytes = (draft() / f"{WEIGHTS}.part").stat().st_size
    hub.pace = 0.0
    hub.sent.clear()
    bring(hub.base)
    assert hub.sent == {WEIGHTS: len(hub.files[WEIGHTS]) - kept_bytes}
    assert (final() / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert resolve(hub.base, Path("/")).name == "tiny"


def test_two_runs_at_once_download_it_once(hub: HubServer) -> None:
    hub.pace = 0.02
    run = begun(hub)
    wait_for(draft() / f"{WEIGHTS}.part", 1)
    said: list[str] = []
    assert bring(hub.base, say=said.append) == ""
    assert said == ["waits for another run, which downloads tiny"]
    assert run.wait() == 0
    assert hub.sent[WEIGHTS] == len(hub.files[WEIGHTS])


# --- the hub refuses


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "GatedRepo", "gated: its authors give it to those who accepted their terms"),
        (403, "GatedRepo", "HF_TOKEN"),
        (401, "RepoNotFound", "there is no repository org/tiny, or it is private"),
        (404, "RepoNotFound", "there is no repository org/tiny, or it is private"),
        (404, "RevisionNotFound", f"org/tiny has no commit {COMMIT}"),
        (403, "DisabledRepo", "the hub has closed org/tiny"),
        (418, "", "the hub refused org/tiny (418)"),
    ],
)
def test_a_refusal_is_a_sentence_and_is_not_tried_again(
    hub: HubServer, status: int, code: str, words: str
) -> None:
    hub.always = (status, {"X-Error-Code": code, "X-Error-Message": "do not show me"})
    told = refused()
    assert words in told and "do not show" not in told
    assert hub.url in told
    assert len(hub.asked) == 1


def test_too_many_requests_are_waited_for_as_the_hub_asks(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    hub.refusals = [(429, {"Retry-After": "7"}), (429, {"Retry-After": "3"}), (503, {})]
    bring(hub.base)
    asked, of_the_hub, ours = [seconds for seconds in slept if seconds]
    assert (asked, of_the_hub) == (7, 3) and ours < 1


def test_a_hub_that_asks_to_wait_for_hours_is_not_waited_for(hub: HubServer) -> None:
    hub.always = (429, {"Retry-After": "7200"})
    assert "too many requests, for 2 h 00 min" in refused(kind=ToolFailed)
    assert len(hub.asked) == 1


@pytest.mark.parametrize("status", [500, 502, 429])
def test_a_fault_that_stays_is_given_up(hub: HubServer, status: int) -> None:
    hub.always = (status, {})
    assert "Run the same command again" in refused(kind=ToolFailed)
    assert len(hub.asked) == patience.TRIES


def test_no_network_is_said_after_a_few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert "no connection to 127.0.0.1" in refused(kind=ToolFailed)


def test_offline_is_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refused(kind=Missing)
    assert hub.asked == []


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://[bad/", "//", "http://h:99999/"],
)
def test_a_redirect_to_anything_else_is_not_followed(hub: HubServer, target: str) -> None:
    hub.elsewhere = target
    assert "redirects" in refused(kind=ToolFailed)


def test_redirects_in_a_circle_end(hub: HubServer) -> None:
    hub.elsewhere = f"{hub.url}/org/tiny/resolve/{COMMIT}/config.json"
    assert "in a circle" in refused(kind=ToolFailed)


# --- the token


@pytest.fixture(params=["HF_TOKEN", "file"])
def token(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    if request.param == "file":
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf/token").write_text(f"{TOKEN}\n")
    else:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    return TOKEN


def test_a_gated_base_comes_with_a_token_which_only_the_hub_sees(
    hub: HubServer,
    token: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)  # what httpx says to those who ask for all
    hub.accepts, hub.to_cdn = token, True
    said: list[str] = []
    told: list[Progress] = []
    hub.cuts[WEIGHTS] = [1000]
    bring(hub.base, told.append, said.append)
    resolve(hub.base, Path("/"))
    for one in hub.asked:
        assert ("authorization" in one.headers) == (not one.cdn), one.path
    assert any(one.cdn for one in hub.asked)
    stored = [path.read_bytes() for path in kept.home().parent.rglob("*") if path.is_file()]
    assert not [raw for raw in stored if token.encode() in raw]
    assert caplog.text
    assert token not in f"{said} {told} {capfd.readouterr()} {caplog.text}"


def test_the_token_does_not_come_back_over_another_host(
    hub: HubServer, base: Path, token: str
) -> None:
    """hub → elsewhere → hub: whoever sent us there is not to use it."""
    with HubServer(base) as other:
        other.always = (302, {"Location": f"{hub.url}/seen"})
        hub.elsewhere = f"{other.url}/on"
        refused()
        assert other.asked and not [o for o in other.asked if "authorization" in o.headers]
        seen = [one for one in hub.asked if one.path == "/seen"]
        assert seen and not [one for one in seen if "authorization" in one.headers]


def test_a_token_of_somebody_who_accepted_nothing_is_told_so(hub: HubServer, token: str) -> None:
    hub.accepts = "another"
    told = refused(kind=BadInput)
    assert "this token's owner did not" in told and f"{hub.url}/org/tiny" in told


def test_a_token_goes_to_no_host_in_the_clear() -> None:
    assert not Endpoint("http://mirror.example", TOKEN).closed
    assert Endpoint("https://mirror.example", TOKEN).closed
    assert TOKEN not in repr(Endpoint("https://mirror.example", TOKEN))


def test_what_is_no_token_is_refused_unseen(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\nX-Other: header")
    assert "HF_TOKEN holds no token" in refused(kind=BadInput)


@pytest.mark.parametrize("url", ["nowhere", f"https://me:{TOKEN}@hub.example", "http://h:99999"])
def test_an_endpoint_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    assert "HF_ENDPOINT is not the address of a hub" in refused(kind=BadInput)


# --- FROM, and the commands


@pytest.mark.parametrize(
    "text",
    ["hub:", "hub:tiny", "hub:a/b/c", "hub:../x@main", "hub:a--b/c", "hub:a/b@../x", "hub:a/b@x y"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    for ask in (lambda: resolve(text, Path("/")), lambda: bring(text)):
        with pytest.raises(BadInput, match="not of the form hub:ORG/NAME@COMMIT"):
            ask()


@pytest.mark.parametrize("revision", ["", "@main"])
def test_without_a_commit_the_line_with_it_is_printed(hub: HubServer, revision: str) -> None:
    with pytest.raises(BadInput, match="a commit") as caught:
        resolve(f"hub:org/tiny{revision}", Path("/"))
    assert f"{hub.url}/org/tiny/commits/main" in caught.value.next_step
    assert hub.asked == []
    assert f"FROM {hub.base}" in refused(f"hub:org/tiny{revision}", BadInput)
    assert not [path for path in hub.paths() if "resolve" in path]


def test_a_branch_that_is_not_there_is_told(hub: HubServer) -> None:
    assert "org/tiny has no branch, tag or commit v9" in refused("hub:org/tiny@v9", BadInput)


def test_a_damaged_download_is_no_base(hub: HubServer) -> None:
    bring(hub.base)
    with (final() / WEIGHTS).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\x00\x40")
    with pytest.raises(Missing, match="the download is damaged") as caught:
        resolve(hub.base, Path("/"))
    assert f"Remove {final()}" in caught.value.next_step
    for name in (WEIGHTS, kept.RECORD):
        (final() / name).unlink()
        with pytest.raises(Missing, match="the download is damaged"):
            resolve(hub.base, Path("/"))
    assert "the download is damaged" in refused(kind=Missing)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("license: apache-2.0\n", "apache-2.0"),
        ("license: other\nlicense_name: tiny\nlicense_link: LINK\n", "tiny (LINK)"),
        ("license: 'other'\n", "other"),
        ("tags: []\n", ""),
    ],
)
def test_the_licence_is_what_the_card_says(hub: HubServer, card: str, license: str) -> None:
    del hub.files["LICENSE"]
    hub.files["README.md"] = f"---\n{card}---\nlicense: not this one\n".encode()
    bring(hub.base)
    assert resolve(hub.base, Path("/")).license == license


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder; no Ollama is reached, and none is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", "ollama.example")
    (tmp_path / "rows.jsonl").write_text(GOOD + "\n")
    return tmp_path


def specialist(*words: str) -> Result:
    return CliRunner().invoke(cli.main, list(words))


@pytest.mark.parametrize("command", ["make", "plan"])
def test_without_the_flag_the_error_is_the_line_to_paste(
    hub: HubServer, folder: Path, command: str
) -> None:
    words = [command, "support", "--data", "rows.jsonl", "--base", hub.base, "--set", "tune.rank=4"]
    done = specialist(*words)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"Error: FROM {hub.base}: it is not on this machine",
        f"  Allow its download, once:  specialist {' '.join(words)} --allow-download",
    ]
    assert hub.asked == []


def test_in_make_the_line_is_one_of_make(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    done = specialist("make", "rows", "--data", "rows.jsonl", "--base", hub.base, "--skip-long")
    assert done.stderr.splitlines()[1:] == [
        "  Allow its download, once:  make specialist DATA=rows.jsonl"
        f" BASE={hub.base} 'ARGS=--skip-long --allow-download'"
    ]


@pytest.mark.parametrize(
    ("level", "line"),
    [
        ("", f"specialist make rows --data rows.jsonl --allow-download --base {HubServer.base}"),
        ("1", f"make specialist DATA=rows.jsonl BASE={HubServer.base} ARGS=--allow-download"),
    ],
)
def test_a_branch_in_a_flag_is_answered_with_the_line_that_names_the_commit(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, level: str, line: str
) -> None:
    if level:
        monkeypatch.setenv("MAKELEVEL", level)
    words = ["make", "rows", "--data", "rows.jsonl", "--base", "hub:org/tiny@main"]
    done = specialist(*words, "--allow-download")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[1] == f"  Run this:  {line}"


def test_a_branch_in_a_modelfile_is_answered_with_its_line(hub: HubServer, folder: Path) -> None:
    (folder / "rows.Modelfile").write_text("FROM hub:org/tiny\n")
    words = ["plan", "rows", "--data", "rows.jsonl", "--modelfiles", ".", "--allow-download"]
    assert specialist(*words).stderr.splitlines()[1:] == [f"  Write this:  FROM {hub.base}"]


def test_json_has_the_line_as_well(hub: HubServer, folder: Path) -> None:
    done = specialist("plan", "x", "--data", "rows.jsonl", "--base", hub.base, "--json")
    (error,) = json.loads(done.stdout)["errors"]
    assert error["next_step"].endswith(f"--base {hub.base} --json --allow-download")


def test_with_the_flag_plan_downloads_shows_bytes_and_one_last_line(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.cli import view

    monkeypatch.setattr(view, "EVERY", 0.0)
    words = ["plan", "x", "--data", "rows.jsonl", "--base", hub.base, "--allow-download"]
    done = specialist(*words)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("base ")]
    assert "about" in lines[0] and "tiny: " in lines[0] and "of 5 MB" in lines[0]
    assert lines[-1].split(",")[:2] == ["base      downloaded tiny", " 5 MB"]
    assert "x from tiny" in done.stdout
    again = specialist(*words[:-1])
    assert again.exit_code == 0 and "downloaded" not in again.stdout


def test_with_the_flag_make_downloads_before_it_reaches_for_ollama(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.tools import server

    def none(*_: object) -> None:
        raise Missing("no Ollama today", "Start it.")

    monkeypatch.setattr(server, "ensure", none)
    done = specialist("make", "x", "--data", "rows.jsonl", "--base", hub.base, "--allow-download")
    assert "downloaded tiny" in done.stdout and "no Ollama today" in done.stderr
    assert resolve(hub.base, Path("/")).name == "tiny"


def test_the_run_after_the_download_needs_no_flag(hub: HubServer, folder: Path) -> None:
    (folder / "x.Modelfile").write_text(f"FROM {hub.base}\n")
    words = ["make", "x", "--data", "rows.jsonl", "--modelfiles", str(folder)]
    assert "--allow-download" in specialist(*words).stderr
    done = specialist(*words, "--allow-download")
    assert "downloaded tiny, 5 MB, in" in done.stdout
    count = len(hub.asked)
    for again in (done, specialist(*words)):  # what follows the base
        assert again.exit_code == 1 and "OLLAMA_HOST" in again.stderr, again.output
    assert len(hub.asked) == count


def test_a_wrong_row_is_told_before_anything_comes(hub: HubServer, folder: Path) -> None:
    (folder / "rows.jsonl").write_text(GOOD + "\n{\n")
    done = specialist("make", "x", "--data", "rows.jsonl", "--base", hub.base, "--allow-download")
    assert done.exit_code == 1 and "rows.jsonl:2" in done.stderr
    assert hub.asked == []


def test_gc_leaves_downloads_and_says_how_large_they_are(hub: HubServer) -> None:
    bring(hub.base)
    done = specialist("gc")
    assert f"kept: a download of 5 MB; to give it up:  rm -r {final()}" in done.stdout
    assert resolve(hub.base, Path("/")).name == "tiny"


def test_gc_names_what_was_never_finished(hub: HubServer) -> None:
    hub.cuts[WEIGHTS] = [1_000_000] + [0] * 100
    refused()
    assert f"kept: an unfinished download of 1 MB; to give it up:  rm -r {draft()}" in (
        specialist("gc").stdout
    )


def test_what_is_downloaded_is_the_owners_alone(hub: HubServer) -> None:
    hub.cuts[WEIGHTS] = [1000] * 100
    refused()
    modes = {path.name: path.stat().st_mode & 0o077 for path in kept.home().rglob("*")}
    assert f"{WEIGHTS}.part" in modes and not any(modes.values())


def test_a_base_of_the_hub_goes_through_fetch(hub: HubServer, tmp_path: Path) -> None:
    from pipeline.made.stage import Where
    from pipeline.stages import fetch
    from pipeline.stages.fetching import from_huggingface
    from pipeline.stages.settings import Fetch

    del hub.files["LICENSE"]
    assert chosen.LICENSES == from_huggingface.LICENSES  # what one takes, the other reads
    hub.files["README.md"] = b"---\nlicense: mit\n---\n"
    bring(hub.base)
    (tmp_path / "out").mkdir()
    made = fetch.run(tmp_path / "out", Fetch(), resolve(hub.base, Path("/")), where=Where())
    assert (made.name, made.license, made.context) == ("tiny", "mit", 4096)
