"""Random numbers from an owned generator instead of PyTorch's global one."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class DrawFrom(TorchDispatchMode):
    """Let the random operations of this thread draw from one generator, on the CPU.

    Layers of PyTorch initialise themselves from the global generator, which other
    threads read at the same time. Within this context manager each random operation on
    the CPU gets the given generator, in the thread that entered the context only. An
    operation with a generator of its own keeps it. RuntimeError is raised if the given
    generator is None, or the operation takes none.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    @classmethod
    def _should_skip_dynamo(cls):
        # PyTorch would import its compiler, which takes time and memory.
        return False

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Run an operation, with the generator if it draws random numbers."""
        kwargs = dict(kwargs or {})
        drawing = torch.Tag.nondeterministic_seeded in operation.tags
        if not drawing or kwargs.get("generator") is not None:
            return operation(*args, **kwargs)
        seeded = _with_generator(operation)
        if seeded is None or self.generator is None:
            raise RuntimeError(
                "A network must draw random numbers while it is built, or in training "
                "by layers such as torch.nn.Dropout, so that they come from the "
                f"estimator's random_state. Got a call of {operation}."
            )
        kwargs["generator"] = self.generator
        if seeded.overloadpacket.__name__.endswith("_"):
            return _draw_in_place(seeded, *args, **kwargs)
        return seeded(*args, **kwargs)


def _with_generator(operation):
    """Return the overload of an operation that takes a generator, or None."""
    arguments = {argument.name for argument in operation._schema.arguments}
    if "generator" in arguments:
        return operation
    packet = operation.overloadpacket
    overload = operation._overloadname
    name = "generator" if overload == "default" else f"{overload}_generator"
    return getattr(packet, name, None)


def _draw_in_place(operation, tensor, *args, **kwargs):
    if tensor.dtype != torch.float64:
        return operation(tensor, *args, **kwargs)
    # Weights become float32 in the end. Layers fill their weights in place; drawn as
    # float32, these are the same with any default type of PyTorch.
    return tensor.copy_(operation(tensor.float(), *args, **kwargs))


@contextmanager
def seeded_global_draws(device, generator):
    """Seed the global generators from an owned one, and restore them in the end.

    The fused random operations of a GPU take no generator.
    """
    device, seed = torch.device(device), torch.randint(2**62, (), generator=generator)
    gpus = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(gpus, device_type=device.type):
        torch.manual_seed(seed.item())
        yield
