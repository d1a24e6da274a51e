"""The CPU's matrix product: threads are set, and whichever product is used is exact to float32."""

import pytest
import torch

from go2_sevpo.runs import cpu


@pytest.fixture(autouse=True)
def restored():
    """Settings as before."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def test_products_are_exact_whatever_is_chosen():
    cpu.use_cpu(2)
    assert torch.get_num_threads() == 2
    assert cpu.product_error() <= cpu.RELATIVE_ERROR
    a = torch.randn(7, 33, requires_grad=True)
    weight = torch.randn(33, 5, requires_grad=True)
    (a @ weight).square().sum().backward()
    out = a.double() @ weight.double()
    assert torch.allclose(weight.grad.double(), 2 * a.double().T @ out, rtol=1e-4, atol=1e-3)


def test_the_check_sees_bfloat16(monkeypatch):
    exact = torch.Tensor.__matmul__

    def rough(a, b):
        return (
            exact(a.bfloat16(), b.bfloat16()).to(a.dtype)
            if a.dtype == torch.float32
            else exact(a, b)
        )

    monkeypatch.setattr(torch.Tensor, "__matmul__", rough)
    assert cpu.product_error() > cpu.RELATIVE_ERROR


def test_an_inexact_onednn_is_not_used(monkeypatch):
    monkeypatch.setattr(cpu, "product_error", lambda: 3e-3)
    assert not cpu.use_cpu(1)
    assert torch.get_float32_matmul_precision() == "highest"
