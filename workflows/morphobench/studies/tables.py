"""Tables of the studies: every column has one type, whatever is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

__all__ = ["study_table"]


def study_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, type]) -> pd.DataFrame:
    """Make a table of rows that may lack columns.

    Parameters
    ----------
    rows : sequence of mapping
        What was measured; keys that are no columns are left out.
    columns : mapping
        Name -> ``str`` (missing: ""), ``float`` (a number; missing: NaN) or ``bool`` (missing: NA).

    Examples
    --------
    >>> study_table([{"mode": None, "kink": True}], {"mode": str, "kink": bool, "value": float}).to_dict("records")
    [{'mode': '', 'kink': True, 'value': nan}]
    """
    table = pd.DataFrame(rows, columns=list(columns))
    for name, kind in columns.items():
        if kind is str:
            table[name] = table[name].where(table[name].notna(), "").astype(str)
        else:
            table[name] = table[name].astype("boolean") if kind is bool else pd.to_numeric(table[name])
    return table
