"""What is measured of a network, with clocks and passes that are given."""

from itertools import pairwise

import pytest
import torch

from caffe_compat.layer_times import PassTimes
from segnet.timing import measures
from segnet.timing.jobs import Job

SMALL = ("segnet_basic", 32, 48, 3)


class _Clock:
    """Its n-th mark is at n² milliseconds."""

    def __init__(self):
        self.marks = 0

    def mark(self):
        self.marks += 1
        return (self.marks - 1) ** 2

    def between(self, marks):
        return [float(later - earlier) for earlier, later in pairwise(marks)]


@pytest.mark.parametrize("engine", [False, True])
def test_inference_is_one_sample_for_each_pass_after_the_warm_up(monkeypatch, engine):
    passes = []
    prepare = measures._inference

    def counted(job):
        net, run = prepare(job)
        return net, lambda: passes.append(run()["prob"].shape)

    monkeypatch.setattr(measures, "_inference", counted)
    monkeypatch.setattr(measures, "clock_of", lambda net: _Clock())
    outcome = measures.inference(Job("inference", *SMALL, batch=2, iterations=3, warm_up=2, engine=engine))
    assert outcome.samples == {"forward": [1.0, 3.0, 5.0]}
    assert passes == [(2, 3, 32, 48)] * 5


def test_training_passes_are_the_sums_of_their_layers(monkeypatch):
    taken = []

    def given(net, clock):
        taken.append(float(len(taken) + 1))
        count = len(net.layers)
        return PassTimes([taken[-1]] * count, [10 * taken[-1]] * count, total=-1.0)

    monkeypatch.setattr(measures, "time_pass", given)
    outcome = measures.training_passes(Job("training_passes", *SMALL, iterations=2, warm_up=1))
    count = len(outcome.layers)
    assert taken == [1.0, 2.0, 3.0]
    assert outcome.samples == {"forward": [2.0 * count, 3.0 * count], "backward": [20.0 * count, 30.0 * count]}
    assert {(layer.forward, layer.backward) for layer in outcome.layers} == {(2.5, 25.0)}
    assert [layer.type for layer in outcome.layers][-1] == "SoftmaxWithLoss"


def test_half_passes_are_timed_as_a_whole(monkeypatch):
    monkeypatch.setattr(measures, "clock_of", lambda net: _Clock())
    outcome = measures.training_passes(Job("training_passes", *SMALL, iterations=2, warm_up=1, precision="bf16"))
    # three marks a pass: 0, 1, 4 of the warm-up, then 9, 16, 25 and 36, 49, 64
    assert outcome.samples == {"forward": [7.0, 13.0], "backward": [9.0, 15.0]}
    assert outcome.layers == []


def test_memory_is_what_was_taken_since(monkeypatch, tmp_path):
    status = tmp_path / "status"
    monkeypatch.setattr(measures, "_STATUS", status)
    status.write_text("VmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\n")
    told = measures._memory("cpu")
    status.write_text("VmHWM:\t    9216 kB\nVmRSS:\t    3072 kB\n")
    assert told() == {"resident": [7.0]}  # 9 MiB at most, from 2 MiB
    status.unlink()
    with pytest.raises(measures.CaffeError, match="expected Linux"):
        told()


def test_a_model_is_counted_and_written():
    samples = measures.model(Job("model", *SMALL)).samples
    # 7×7 convolutions: 3 to 64, seven 64 to 64 (biases in the encoder), statistics' scale and shift, and 64 to 3
    assert samples["parameters"][0] == pytest.approx(1.416, abs=0.001)
    assert samples["size"][0] == pytest.approx(4 * samples["parameters"][0], rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none")
@pytest.mark.parametrize("measure", sorted(measures.MEASURES))
def test_on_a_gpu(measure):
    try:
        outcome = measures.MEASURES[measure](Job(measure, *SMALL, iterations=2, device="cuda"))
    finally:
        measures.use_device("cpu")
    assert outcome.samples and all(value >= 0 for values in outcome.samples.values() for value in values)
