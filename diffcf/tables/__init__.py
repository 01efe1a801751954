"""Results on disk → tables. :mod:`diffcf.tables.command` writes those that compare methods."""

from diffcf.tables.results import ResultsError
from diffcf.tables.single import (
    COLUMNS,
    WHOLE,
    intervened,
    markdown,
    method_rows,
    references,
    results_table,
    table,
    table_rows,
)

__all__ = [
    "COLUMNS",
    "WHOLE",
    "ResultsError",
    "intervened",
    "markdown",
    "method_rows",
    "references",
    "results_table",
    "table",
    "table_rows",
]
