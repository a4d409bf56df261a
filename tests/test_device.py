"""Which card is used, and which memory decides."""

from pipeline.tools.device import visible


def test_the_card_that_cuda_sees_is_the_one_whose_memory_was_asked() -> None:
    assert visible("cuda", {}) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    assert visible("cuda", {"CUDA_VISIBLE_DEVICES": "2,1"})["CUDA_VISIBLE_DEVICES"] == "2"


def test_on_the_cpu_no_card_is_seen() -> None:
    assert visible("cpu", {"CUDA_VISIBLE_DEVICES": "1"}) == {"CUDA_VISIBLE_DEVICES": ""}
