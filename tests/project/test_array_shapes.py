"""Array shapes are checked while the tests run: a wrong one, or a silent broadcast, raises."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checker import CHECKED
from jaxtyping import TypeCheckError

from dynsim._losses import diverged, loss_and_residual


def test_right_shapes_pass():
    losses, residual = loss_and_residual("mse", jnp.ones((3, 2)), jnp.zeros((3, 2)))
    assert losses.shape == (3,)
    assert residual.shape == (3, 2)
    assert not diverged(np.ones((4, 5))).any()


def test_a_wrong_shape_raises():
    """Without the checker, targets of one output would be broadcast over two."""
    with pytest.raises(TypeCheckError, match="loss_and_residual"):
        loss_and_residual("mse", jnp.ones((3, 2)), jnp.zeros((3, 1)))
    with pytest.raises(TypeCheckError, match="loss_and_residual"):
        loss_and_residual("mse", jnp.ones((3, 2)), jnp.zeros((4, 2)))


def test_a_wrong_kind_of_number_raises():
    with pytest.raises(TypeCheckError, match="diverged"):
        diverged(np.ones((4, 5), int))


def test_shapes_are_checked_inside_compiled_programs():
    step = jax.jit(lambda outputs, wanted: loss_and_residual("ce", outputs, wanted)[0])
    assert step(jnp.ones((3, 2)), jnp.ones((3, 2))).shape == (3,)
    with pytest.raises(TypeCheckError):
        step(jnp.ones((3, 2)), jnp.ones((3, 1)))


def test_arrays_of_different_rank_are_not_added():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.add(jnp.ones((3, 2)), jnp.ones(2))
    assert (jnp.ones((3, 2)) + jnp.ones(2)[None, :]).shape == (3, 2)
    assert (jnp.ones((3, 2)) + 1.0).shape == (3, 2)  # numbers go with every shape


def test_the_modules_with_shapes_are_found():
    assert "dynsim._losses" in CHECKED
    assert "dynsim._errors" not in CHECKED
