"""Where the muP regime ends, and the laws under which it does not."""

from __future__ import annotations

import math

import pytest

from dynsim import coherence, token_law
from dynsim.maps import crossover_vocab_size, mup_regime_reaches


def test_uniform_tokens_have_an_end_at_every_width_and_the_closed_form():
    for width in (16, 1024, 10**6):
        law = token_law("uniform", 10)
        assert crossover_vocab_size(width, law) == math.floor(2 / math.pi * (width - 1))
        assert mup_regime_reaches(width, law) is None


@pytest.mark.parametrize("batch_size", [0, 64])
@pytest.mark.parametrize("tokens", ["uniform", "zipf:0.7", "zipf:1"])
@pytest.mark.parametrize("width", [2, 64, 2048])
def test_the_regime_ends_or_reaches_the_largest_vocabulary_or_never_begins(
    width, tokens, batch_size
):
    law = token_law(tokens, 10)
    end = crossover_vocab_size(width, law, batch_size=batch_size)
    reach = mup_regime_reaches(width, law, batch_size=batch_size)
    assert [end is not None, reach is not None, width == 2].count(True) == 1


def test_of_counts_the_regime_reaches_at_most_all_types():
    law = token_law("zipf:1", 300)
    shares = law.frequencies @ coherence(2048, law)
    assert shares > 1
    assert mup_regime_reaches(2048, law) == 2**27
    assert crossover_vocab_size(2048, law) is None
