"""torch on a CPU: threads, and the faster of two matrix products where both are exact.

torch's default product (MKL) is slow on processors that are not Intel's; oneDNN, which torch
carries too, is taken only if a precision lower than float32 is *allowed*. On processors without
matrix units for bfloat16 it computes in float32 all the same.
"""

from __future__ import annotations

import torch

RELATIVE_ERROR = 1e-5
"""Of a product, against float64; float32 has about 5e-7, TF32 3e-4, bfloat16 3e-3."""


def product_error() -> float:
    """Largest error of a batched and a plain float32 product, relative to the largest entry.

    Two pairs of random 256 x 256 matrices are multiplied, against float64.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 256, 256, generator=generator).unbind(0)  # (2, 256, 256) each
    exact = a.double() @ b.double()
    # Batched and plain products are different kernels.
    batched, plain = a @ b, torch.stack([x @ y for x, y in zip(a, b)])
    found = torch.stack([batched.double(), plain.double()])
    return float((found - exact).abs().max() / exact.abs().max())


def use_cpu(threads: int) -> bool:
    """Set torch's threads; let oneDNN multiply if that is exact to float32 here.

    Not for processes that learn on a GPU.

    Returns:
        whether oneDNN may multiply. Depends on the processor and on torch's version alone, so that
        runs can be repeated.
    """
    torch.set_num_threads(threads)
    # "medium" allows a lower precision; whether this processor then uses one is measured.
    torch.set_float32_matmul_precision("medium")
    if product_error() <= RELATIVE_ERROR:
        return True
    torch.set_float32_matmul_precision("highest")
    return False
