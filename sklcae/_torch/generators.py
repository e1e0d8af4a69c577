"""Random numbers from an owned generator instead of PyTorch's global one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["DrawFrom"]


class DrawFrom(TorchDispatchMode):
    """Let the random operations of this thread draw from one generator.

    Layers of PyTorch initialise themselves from the global generator, which other
    threads read at the same time. Within this context manager each random operation on
    the CPU gets the given generator, in the thread that entered the context only. An
    operation with a generator of its own keeps it.

    Parameters
    ----------
    generator : torch.Generator
        The generator, on the CPU.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Run an operation, with the generator if it draws random numbers."""
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in operation.tags:
            return operation(*args, **kwargs)
        operation = _with_generator(operation)
        if kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        if operation.overloadpacket.__name__.endswith("_"):
            return _draw_in_place(operation, *args, **kwargs)
        return operation(*args, **kwargs)


def _with_generator(operation):
    """Return the overload of an operation that takes a generator."""
    arguments = {argument.name for argument in operation._schema.arguments}
    if "generator" in arguments:
        return operation
    packet = operation.overloadpacket
    overload = operation._overloadname
    name = "generator" if overload == "default" else f"{overload}_generator"
    if name not in packet.overloads():
        raise NotImplementedError(
            f"A network must draw its random numbers by operations that take a "
            f"generator. Got {operation}."
        )
    return getattr(packet, name)


def _draw_in_place(operation, tensor, *args, **kwargs):
    if tensor.dtype != torch.float64:
        return operation(tensor, *args, **kwargs)
    # Weights become float32 in the end. Drawn so from the start, they are the same
    # whichever type is PyTorch's default.
    return tensor.copy_(operation(tensor.float(), *args, **kwargs))
