"""How jobs share GPUs, tested without one."""

import pytest

from morphobench.plugins.discovery import discover_methods
from morphobench.runs import processes
from morphobench.trials import supervisor


@pytest.fixture
def coin(scratch, monkeypatch):
    scratch.add_method("coin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(processes, "gpus", lambda: ("GPU A", "GPU B"))
    return discover_methods(scratch.root / "methods")["coin"]


def device(coin, tmp_path):
    return supervisor._device(coin, tmp_path / "gpus")


def test_a_job_that_was_granted_no_gpu_takes_none(coin, tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOBENCH_GPUS", "0")
    with device(coin, tmp_path) as chosen:
        assert chosen == "cpu"


def test_jobs_that_run_together_take_different_gpus(coin, tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOBENCH_GPUS", "1")
    with device(coin, tmp_path) as first, device(coin, tmp_path) as second:
        assert (first, second) == ("cuda:0", "cuda:1")
    with device(coin, tmp_path) as again:
        assert again == "cuda:0"


def test_the_device_a_scheduler_chose_is_kept(coin, tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOBENCH_GPUS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with device(coin, tmp_path) as chosen:
        assert chosen == "cuda:3"


def test_a_machine_without_gpu_falls_back_to_the_processor(coin, tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOBENCH_GPUS", "1")
    monkeypatch.setattr(processes, "gpus", tuple)
    with device(coin, tmp_path) as chosen:
        assert chosen == "cpu"
