"""Parquet files, which unpack to a thousand times their size, read within the memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ._files import most_bytes

if TYPE_CHECKING:
    import pandas as pd


def parquet_table(data: bytes) -> pd.DataFrame:
    """The table of a Parquet file. Raises `ValueError` for one that does not fit the memory, and
    `ImportError` without pyarrow."""
    import pandas as pd
    import pyarrow.parquet

    most = most_bytes()
    content = pyarrow.parquet.ParquetFile(io.BytesIO(data)).metadata
    groups = [content.row_group(number) for number in range(content.num_row_groups)]
    size = max(
        sum(one.total_byte_size for one in groups), 8 * content.num_rows * content.num_columns
    )
    if size > most:
        raise ValueError(f"it holds more than the {most / 2**30:.2g} GiB that fit the memory")
    return pd.read_parquet(io.BytesIO(data))
