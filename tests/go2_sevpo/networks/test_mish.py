"""Our mish is torch's."""

import torch
from torch.nn import functional as F

from go2_sevpo.networks.mish import mish


def test_values_and_gradients_are_those_of_torch():
    x = torch.cat([torch.linspace(-120.0, 120.0, 4001), torch.zeros(1)])
    exact = x.double().requires_grad_()
    F.mish(exact).sum().backward()
    ours = x.clone().requires_grad_()
    weights = torch.linspace(-1.0, 1.0, len(x))
    (mish(ours) * weights).sum().backward()
    assert torch.isfinite(ours.grad).all()
    assert torch.allclose(ours.grad.double(), exact.grad * weights, rtol=1e-5, atol=2e-6)
    for value in (mish(ours), mish(x)):
        assert torch.allclose(value.double(), F.mish(x.double()), rtol=1e-6, atol=1e-7)


def test_gradient_check_in_double():
    x = torch.linspace(-6.0, 6.0, 41, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mish, (x,))


def test_the_input_is_left_alone():
    x = torch.randn(3, 5)
    before = x.clone()
    mish(x)
    mish(x.requires_grad_()).sum().backward()
    assert torch.equal(x.detach(), before)


def test_traced_graphs_hold_one_sigmoid_and_compute_the_same():
    traced = torch.jit.trace(mish, torch.randn(4))
    assert "aten::sigmoid" in str(traced.graph) and "aten::mish" not in str(traced.graph)
    x = torch.cat([torch.linspace(-60.0, 60.0, 2401), torch.tensor([-1e4, 1e4])])
    assert (traced(x) - torch.nn.functional.mish(x)).abs().max() < 1e-5
