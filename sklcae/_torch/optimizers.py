"""Optimizers, and schedules of their learning rate."""

import torch
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

# The classes of the schedules; None leaves the learning rate as it is.
LR_SCHEDULES = {"constant": None, "one_cycle": OneCycleLR}


def make_schedule(name, lr, n_steps):
    """Return the skorch callback that sets the learning rate before each step, or None.

    ``lr`` is the highest learning rate, ``n_steps`` the number of steps of the whole
    schedule. A constant learning rate needs no callback.
    """
    if LR_SCHEDULES[name] is None:
        return None
    return LRScheduler(
        LR_SCHEDULES[name],
        max_lr=lr,
        total_steps=n_steps,
        step_every="batch",
        event_name=None,
        last_epoch=-1,
    ).initialize()


def fast_forward(schedule, n_steps):
    """Set the learning rate of a new schedule to its value after some steps."""
    if n_steps > 0:
        scheduler = schedule.lr_scheduler_
        moved = {"last_epoch": n_steps - 1, "_step_count": n_steps + 1}
        scheduler.load_state_dict(scheduler.state_dict() | moved)
        scheduler.step()
