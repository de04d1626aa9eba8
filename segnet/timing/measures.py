"""What can be measured of a network: its passes, the memory they take, the size of its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from caffe_compat import TEST, TRAIN, Net, Solver, set_mode_cpu, set_mode_gpu
from caffe_compat.build_graph import build_graph
from caffe_compat.device import chosen_device
from caffe_compat.layer_times import ask_for_gradients, clock_of, feed_random, time_pass
from caffe_compat.training.loss_scale import LossScale
from caffe_compat.training.passes import PRECISIONS, make_pass
from prototxt.caffe_pb2 import NetParameter, SolverParameter
from prototxt.errors import CaffeError
from prototxt.net_file import NetFile
from segnet.by_hand import fed_by_hand
from segnet.networks import NETWORKS, Training
from segnet.timing.jobs import Job, Layer, Outcome

_MIB = 2**20
_STATUS = Path("/proc/self/status")


def training_passes(job: Job) -> Outcome:
    """Forward and backward of the training network with its loss: ``forward`` and ``backward``, in milliseconds.

    In fp32 every layer is timed, as `caffe time` does; in half precision the net runs as a torch module under autocast,
    and the passes are timed as a whole.
    """
    use_device(job.device)
    net = Net(_training_net(job), TRAIN)
    feed_random(net)
    if job.precision != "fp32":
        return _half_passes(net, job)
    ask_for_gradients(net.graph)
    clock = clock_of(net)
    for _ in range(job.warm_up):
        time_pass(net, clock)
    passes = [time_pass(net, clock) for _ in range(job.iterations)]
    means = (
        [sum(times) / len(passes) for times in zip(*way, strict=True)]
        for way in ([one.forward for one in passes], [one.backward for one in passes])
    )
    layers = [Layer(layer.name, layer.type, *times) for layer, *times in zip(net.layers, *means, strict=True)]
    samples = {
        "forward": [sum(one.forward) for one in passes],
        "backward": [sum(one.backward) for one in passes],
    }
    return Outcome(samples, layers)


def _half_passes(net: Net, job: Job) -> Outcome:
    run = make_pass(job.precision, loss_scale=LossScale() if job.precision == "fp16" else None)
    clock = clock_of(net)
    times = []
    for _ in range(job.warm_up + job.iterations):
        net.zero_grad()
        marks = [clock.mark()]
        run(net, lambda loss, marks=marks: marks.append(clock.mark()))  # called between forward and backward
        times.append(clock.between([*marks, clock.mark()]))
    forward, backward = zip(*times[job.warm_up :], strict=True)
    return Outcome({"forward": list(forward), "backward": list(backward)})


def inference(job: Job) -> Outcome:
    """Forward of the network for inference, called with a tensor: ``forward``, in milliseconds."""
    use_device(job.device)
    net, run = _inference(job)
    clock = clock_of(net)
    for _ in range(job.warm_up):
        run()
    marks = [clock.mark()]
    for _ in range(job.iterations):
        run()
        marks.append(clock.mark())
    return Outcome({"forward": clock.between(marks)})


def training_memory(job: Job) -> Outcome:
    """What steps of a solver with momentum take; see ``_memory``."""
    use_device(job.device)
    watch = _memory(job.device)
    settings = dict(lr_policy="fixed", base_lr=0.001, momentum=0.9, weight_decay=0.0005)
    solver = Solver(SolverParameter(net_param=_training_net(job), **settings), precision=job.precision)
    feed_random(solver.net)
    solver.step(job.warm_up + job.iterations)
    return Outcome(watch())


def inference_memory(job: Job) -> Outcome:
    """What passes of the network for inference take; see ``_memory``."""
    use_device(job.device)
    watch = _memory(job.device)
    _, run = _inference(job)
    for _ in range(job.warm_up + job.iterations):
        run()
    return Outcome(watch())


def model(job: Job) -> Outcome:
    """``parameters`` in millions, and ``size`` of the caffemodel in MB (10⁶ bytes), as it is written to the disk."""
    set_mode_cpu()
    message = NETWORKS[job.network](job.height, job.width, job.classes)
    parameters = build_graph(NetFile.from_message(message), TEST).parameter_count
    net = Net(message, TEST, fill=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.caffemodel")
        net.save(path)
        return Outcome({"parameters": [parameters / 1e6], "size": [path.stat().st_size / 1e6]})


#: Name → what is measured.
MEASURES: dict[str, Callable[[Job], Outcome]] = {
    one.__name__: one for one in (training_passes, inference, training_memory, inference_memory, model)
}


def use_device(device: str) -> None:
    """Let nets run on the CPU, or on the GPU with cuDNN choosing its fastest kernels. Raises NetError without a GPU."""
    if device == "cpu":
        set_mode_cpu()
    else:
        set_mode_gpu()
        torch.backends.cudnn.benchmark = True


def _training_net(job: Job) -> NetParameter:
    size = job.height, job.width
    return fed_by_hand(NETWORKS[job.network](*size, job.classes, training=Training(batch_size=job.batch)), size)


def _inference(job: Job) -> tuple[Net, Callable[[], object]]:
    """A net for inference, and what runs it once."""
    net = Net(NETWORKS[job.network](job.height, job.width, job.classes, batch_size=job.batch), TEST)
    images = (torch.rand(job.batch, 3, job.height, job.width) * 255).to(chosen_device())
    forward = net.engine(precision=job.precision) if job.engine else net
    dtype = None if job.engine else PRECISIONS[job.precision]

    def run() -> object:
        with torch.no_grad(), torch.autocast(job.device, dtype, enabled=dtype is not None):
            return forward(images)

    return net, run


def _memory(device: str) -> Callable[[], dict[str, list[float]]]:
    """Begin to watch this process's memory. What comes back tells what it took since then at most, in MiB.

    On the CPU that is ``resident``, beyond what the process had after its imports. On a GPU it is ``allocated`` and
    ``reserved`` by torch, and what the ``driver`` gave away. CUDA's own context, which nvidia-smi counts too, was there
    before.

    Raises:
        CaffeError: the system does not tell.
    """
    if device == "cpu":
        before = _status("VmRSS")
        return lambda: {"resident": [(_status("VmHWM") - before) / _MIB]}
    free, _ = torch.cuda.mem_get_info()
    return lambda: {
        "allocated": [torch.cuda.max_memory_allocated() / _MIB],
        "reserved": [torch.cuda.max_memory_reserved() / _MIB],
        "driver": [(free - torch.cuda.mem_get_info()[0]) / _MIB],
    }


def _status(field: str) -> int:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    except (OSError, StopIteration):
        raise CaffeError(f"memory is read from {_STATUS}, which this system does not have; expected Linux") from None
    return int(line.split()[1]) * 1024
