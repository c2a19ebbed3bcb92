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


@pytest.mark.parametrize("shape", [(2, 4), (3, 5), (2, 2500), (64, 64), (2**18, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 3, _draws.FEW + 1])
def test_rows_that_share_a_program_are_those_drawn_alone(shape, dtype, count):
    keys = jax.random.split(jax.random.key(5), count)
    drawn = _draws.normal_rows(keys, 0.37, shape, dtype)
    assert drawn.shape == (count, *shape)
    alone = jax.jit(lambda key, std: std * _draws.normal(key, shape, dtype))
    for key, row in zip(keys, drawn, strict=True):
        np.testing.assert_array_equal(row, alone(key, np.asarray(0.37, dtype)))


def test_lengths_of_rows_share_a_program():
    key = jax.random.split(jax.random.key(0), 1)
    for first, *others in ((4096, 8, 100, 4095), (2**18 + 1, 2**19 - 1)):
        _draws.normal_rows(key, 1.0, (first,), "float32")
        before = _draws._row.traces
        for length in others:
            _draws.normal_rows(key, 1.0, (length,), "float32")
        assert _draws._row.traces == before
