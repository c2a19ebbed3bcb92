"""Matrices of these tests are small: threads of PyTorch cost more than they save."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
