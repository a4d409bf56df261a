"""What is said about an NVIDIA device, from what the kernel and nvidia-smi show."""

from pathlib import Path

import pytest

from pipeline.common.errors import Missing
from pipeline.tools import device, gpu

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\nGCC version: 12"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Feb  1 00:00:00 UTC 2024\n"


@pytest.fixture(autouse=True)
def all_cards_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def machine(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def smi(root: Path, says: str, code: int = 0) -> str:
    path = root / "bin" / "nvidia-smi"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_a_machine_without_a_device_is_fine_even_with_the_tool_installed(tmp_path: Path) -> None:
    assert not gpu.present(tmp_path)
    assert gpu.unusable(tmp_path, smi(tmp_path, "No devices were found", 6)) == ""


@pytest.mark.parametrize("text", [OPEN, CLOSED])
def test_the_kernel_modules_version_decides_where_nvidia_smi_is_missing(
    tmp_path: Path, no_smi: None, text: str
) -> None:
    machine(tmp_path, dev__nvidia0="", proc__driver__nvidia__version=text.format("550.54.15"))
    assert "550.54.15 is too old" in gpu.unusable(tmp_path)

    machine(tmp_path, proc__driver__nvidia__version=text.format("580.65.06"))
    assert gpu.unusable(tmp_path) == ""


def test_an_old_driver_is_named_with_the_one_that_is_needed(tmp_path: Path) -> None:
    machine(tmp_path, dev__nvidia0="")
    reason = gpu.unusable(tmp_path, smi(tmp_path, "NVIDIA A10, 535.183.01, 8.6"))
    assert "535.183.01" in reason and "580" in reason


def test_a_device_that_cuda_13_has_dropped_is_named(tmp_path: Path) -> None:
    machine(tmp_path, dev__nvidia0="")
    reason = gpu.unusable(tmp_path, smi(tmp_path, "Tesla V100-SXM2-16GB, 580.95.05, 7.0"))
    assert "V100" in reason and "too old" in reason


def test_a_new_device_with_a_new_driver_is_usable(tmp_path: Path) -> None:
    machine(tmp_path, dev__nvidia0="")
    assert gpu.unusable(tmp_path, smi(tmp_path, "NVIDIA H100 80GB HBM3, 590.44.01, 9.0")) == ""


def test_a_card_without_a_driver_is_unusable(tmp_path: Path, no_smi: None) -> None:
    card = "sys__bus__pci__devices__0000:01:00.0__"
    machine(tmp_path, **{card + "vendor": "0x10de\n", card + "class": "0x030000\n"})
    assert "no working driver" in gpu.unusable(tmp_path)


def test_a_container_that_was_not_given_the_hosts_card_has_none(tmp_path: Path) -> None:
    card = "sys__bus__pci__devices__0000:01:00.0__"
    files = {card + "vendor": "0x10de\n", card + "class": "0x030200\n", ".dockerenv": ""}
    assert not gpu.present(machine(tmp_path, **files))


def test_an_nvidia_sound_card_and_an_intel_display_are_no_device(tmp_path: Path) -> None:
    card = "sys__bus__pci__devices__0000:0{}:00.0__"
    machine(tmp_path, **{card.format(1) + "vendor": "0x10de", card.format(1) + "class": "0x040300"})
    machine(tmp_path, **{card.format(2) + "vendor": "0x8086", card.format(2) + "class": "0x030000"})
    assert not gpu.present(tmp_path)


def test_wsl_shows_its_device_by_windows_tools(tmp_path: Path, no_smi: None) -> None:
    tool = tmp_path / "usr/lib/wsl/lib/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 3060, 566.36, 8.6'\n")
    tool.chmod(0o755)
    assert gpu.present(tmp_path)
    assert "566.36 is too old" in gpu.unusable(tmp_path)


CARDS = """#!/bin/sh
case "$2 $3" in
"0 --query-gpu=memory.total") echo 4096 ;;
"1 --query-gpu=memory.total") echo 24576 ;;
"0 --query-gpu=name"*) echo "Tesla V100-SXM2-16GB, 580.95.05, 7.0" ;;
"1 --query-gpu=name"*) echo "NVIDIA RTX A5000, 580.95.05, 8.6" ;;
*) exit 6 ;;
esac
"""


@pytest.fixture
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An old card and a new one."""
    path = tmp_path / "bin" / "nvidia-smi"
    path.parent.mkdir()
    path.write_text(CARDS)
    path.chmod(0o755)
    machine(tmp_path, dev__nvidia0="", dev__nvidia1="")
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "present", lambda root=tmp_path: True)
    return str(path)


def test_the_card_that_is_judged_is_the_one_that_is_used(
    two_cards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "V100" in gpu.unusable(smi=two_cards)
    with pytest.raises(Missing, match="V100"):
        device.choose("auto")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert gpu.unusable(smi=two_cards) == ""
    assert device.choose("auto") == device.Device("cuda", 24576 << 20)
    assert device.visible("cuda")["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize("hidden", ["", "-1", "-1,0"])
def test_cards_that_the_user_hides_from_cuda_are_not_judged(
    two_cards: str, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpu.unusable(smi=two_cards) == ""
    assert device.choose("auto") == device.Device("cpu", None)
    with pytest.raises(Missing):
        device.choose("cuda")
