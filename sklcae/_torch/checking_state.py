"""Properties of a stored training state that only PyTorch knows."""

import numpy as np
import torch

# Numbers that PyTorch's generator makes at a time.
N_NUMBERS = 624


def optimizer_specs(net):
    """Return shape and type of each array of a state by `get_optimizer_state`.

    A type is a NumPy name. The optimizer has made a step at least.
    """
    specs = {"generator": _spec(net.generator.get_state())}
    for index, weight in enumerate(net.module_.parameters()):
        if weight.requires_grad:
            specs[f"{index}.step"] = (), "float32"
            specs[f"{index}.exp_avg"] = _spec(weight)
            specs[f"{index}.exp_avg_sq"] = _spec(weight)
    return specs


def _spec(tensor):
    return tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def is_generator_state(state):
    """Return whether an array of uint8 is a state of a generator on the CPU."""
    try:
        torch.Generator("cpu").set_state(torch.from_numpy(state))
    except RuntimeError:
        return False
    # PyTorch would read numbers from behind the last one.
    left, place = state[8:12].view(np.int32), state[16:24].view(np.uint64)
    return int(left[0]) + int(place[0]) <= N_NUMBERS + 1
