"""device_query, with and without a GPU."""

from types import SimpleNamespace

from tests.caffe_compat.tools.said import fail, run


def pretend(monkeypatch, *properties):
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(properties))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: properties[number])


def gpu(name):
    return SimpleNamespace(name=name, major=9, minor=0, total_memory=85 * 10**9, multi_processor_count=132)


def test_what_torch_knows_is_told_in_caffes_words(monkeypatch, capsys):
    pretend(monkeypatch, gpu("first"), gpu("second"))
    assert run(capsys, "device_query", "-gpu", 1) == [
        "Device id:                     1",
        "Major revision number:         9",
        "Minor revision number:         0",
        "Name:                          second",
        "Total global memory:           85000000000",
        "Number of multiprocessors:     132",
    ]
    everything = run(capsys, "device_query", "-gpu", "all")
    assert [line for line in everything if line.startswith("Device id")] == [
        f"Device id:                     {number}" for number in (0, 1)
    ]
    assert run(capsys, "device_query") == everything == run(capsys, "device_query", "--gpu=0,1")


def test_no_gpu_is_an_answer(monkeypatch, capsys):
    pretend(monkeypatch)
    (line,) = run(capsys, "device_query")
    assert "sees no CUDA device" in line and "runs on the CPU" in line


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch, capsys):
    pretend(monkeypatch, gpu("only"))
    assert fail(capsys, "device_query", "--gpu", 1) == "GPU 1 does not exist; expected 0 to 0\n"
    pretend(monkeypatch)
    for number in (0, "all"):
        assert fail(capsys, "device_query", "--gpu", number) == "GPU 0 does not exist; expected none\n"
