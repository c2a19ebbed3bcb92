"""Numbers drawn in a row are those of `jax.random`."""

import jax
import numpy as np
import pytest

from dynsim import _draws


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("name", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_do_not_depend_on_how_they_are_drawn(shape, name, dtype):
    keys = jax.random.split(jax.random.key(3), 2)
    drawn = jax.vmap(lambda key: getattr(_draws, name)(key, shape, dtype))(keys)
    expected = jax.vmap(lambda key: getattr(jax.random, name)(key, shape, dtype))(keys)
    assert drawn.shape == (2, *shape)
    assert drawn.dtype == dtype
    np.testing.assert_array_equal(drawn, expected)
