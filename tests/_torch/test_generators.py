"""Random numbers of PyTorch from an owned generator."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklcae._torch.generators import DrawFrom, seeded_global_draws

DRAWS = {
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(2, 2),
    "rand_like": lambda: torch.rand_like(torch.ones(3)),
    "randint": lambda: torch.randint(100, (9,)),
    "randint from": lambda: torch.randint(5, 100, (9,)),
    "randperm": lambda: torch.randperm(20),
    "normal": lambda: torch.normal(0.0, 1.0, (3,)),
    "bernoulli": lambda: torch.bernoulli(torch.full((50,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(30), 9),
    "uniform_": lambda: torch.empty(3).uniform_(),
    "exponential_": lambda: torch.empty(3).exponential_(),
    "dropout": lambda: F.dropout(torch.ones(50)),
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(9)),
    "orthogonal_": lambda: nn.init.orthogonal_(torch.empty(4, 4)),
    "linear": lambda: nn.Linear(9, 2).weight.detach(),
    "recurrent": lambda: nn.GRU(3, 4).weight_hh_l0.detach(),
    "attention": lambda: nn.MultiheadAttention(4, 2).in_proj_weight.detach(),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DRAWS)
def test_every_draw_comes_from_the_generator(name):
    draw, state = DRAWS[name], torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        with DrawFrom(seeded(seed)):
            drawn.append(draw())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)
    with DrawFrom(None), pytest.raises(RuntimeError, match="random_state"):
        draw()


def test_a_generator_that_is_given_is_kept():
    with DrawFrom(seeded(0)):
        values = torch.rand(3, generator=seeded(7))
    assert torch.equal(values, torch.rand(3, generator=seeded(7)))


def test_other_threads_draw_as_before():
    """Only the thread that entered the context is changed."""
    drawn = []
    with DrawFrom(None):
        thread = threading.Thread(target=lambda: drawn.append(torch.rand(2)))
        thread.start()
        thread.join()
    assert len(drawn) == 1


def test_global_draws_are_seeded_and_restored():
    state, drawn = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        with seeded_global_draws("cpu", seeded(seed)):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)
