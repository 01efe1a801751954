"""Tables of factors: CSV and Parquet files, read whole and checked, with the row of every value.

Row numbers are those that an editor shows: 1 for the header of a CSV, or for Parquet's first row.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import abspath, realpath, relpath
from pathlib import Path
from posixpath import isabs, normpath
from typing import Any

from diffcf.io.errors import DataError, OutputError
from diffcf.io.files import whole_file

PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Table:
    """Some columns of a table.

    Attributes:
        file: where it was read.
        columns: values by column name, all of length N; text in a CSV, typed in Parquet.
        rows: the row number of every value, ``[N]``.
    """

    file: Path
    columns: Mapping[str, Sequence[object]]
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def origin(self, place: int) -> str:
        """Where the value at ``place`` stands, such as ``factors.csv row 17``."""
        return f"{self.file.name} row {self.rows[place]}"

    def select(self, places: Sequence[int]) -> Table:
        """Some of the rows, in this order."""
        values = {name: [column[p] for p in places] for name, column in self.columns.items()}
        return Table(self.file, values, [self.rows[p] for p in places])

    def error(self, place: int, column: str, problem: str) -> DataError:
        """An error that names file, row, column and then the problem."""
        return DataError(f"{self.file} row {self.rows[place]}, column '{column}': {problem}")


def read_table(file: str | Path, columns: Sequence[str], optional: Collection[str] = ()) -> Table:
    """The named columns of a CSV or Parquet file, and of ``optional`` ones those that are there.

    A CSV is UTF-8 (with or without byte-order mark), its lines end in any way, and its cells are
    separated by comma, semicolon or tab, whichever its header has most of. Rows without any text,
    and cells without text beyond the last column, are skipped, as are blanks around headings.

    Raises:
        DataError: naming file, row and column, for a file that is missing, empty, damaged or of
            another kind, for a missing column, one of ``columns`` that stands there twice, and
            for rows of unequal length.
    """
    file = Path(file)
    with _reading(file):
        if file.suffix.lower() in PARQUET:
            table = _read_parquet(file, columns, optional)
        else:
            header, records = _read_csv(file)
            columns = _wanted(file, header, columns, optional)
            uneven = f"cells where the header has {len(header)}: give every row the same cells"
            table = select_columns(file, header, columns, records, uneven)
    if not len(table):
        raise DataError(f"Table {file} has no rows: give one per image.")
    return table


def read_header(file: str | Path) -> list[str]:
    """The headings of a table, in its order, without blanks around; errors as :func:`read_table`.

    Some may be empty, or there twice.
    """
    file = Path(file)
    with _reading(file):
        return _parquet_header(file) if file.suffix.lower() in PARQUET else _read_csv(file)[0]


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """DataError for a file of another kind, a missing one, and one that cannot be read."""
    if file.suffix.lower() not in PARQUET + TEXT:
        raise DataError(f"Table {file} is neither CSV nor Parquet: save it as .csv or .parquet.")
    if not file.is_file():
        raise DataError(f"Table {file} does not exist: check the path.")
    try:
        yield
    except OSError as error:
        raise DataError(f"Table {file} cannot be read ({error}): check the file.") from None


def cut_table(table: Table, places: Sequence[int], out: Path) -> None:
    """Write some rows of a table's file, with all their columns, as they stand there.

    A number of rows alone in its first line, as CelebA's has, is made theirs.

    Raises:
        DataError: when ``out`` has another ending than the file.
        OutputError: when ``out`` exists already, or cannot be written.
    """
    if out.suffix.lower() != table.file.suffix.lower():
        raise DataError(f"Table {table.file} cannot be cut to {out}: give both the same ending.")
    if out.exists():
        raise OutputError(f"{out} exists: name another file.")
    with whole_file(out) as unfinished:
        if out.suffix.lower() in PARQUET:
            from pyarrow import parquet

            whole = parquet.ParquetFile(table.file).read()
            parquet.write_table(whole.take(list(places)), unfinished)
            return
        lines = list(io.StringIO(read_text(table.file), newline=""))
        head, ends = lines[: table.rows[0] - 1], [*table.rows[1:], len(lines) + 1]
        if head and head[0].strip() == str(len(table)):
            head[0] = head[0].replace(str(len(table)), str(len(places)), 1)
        kept = ("".join(lines[table.rows[p] - 1 : ends[p] - 1]) for p in places)
        unfinished.write_text("".join([*head, *kept]), encoding="utf-8", newline="")


def read_text(file: Path) -> str:
    """A UTF-8 file without its byte-order mark; DataError when it is none, or empty."""
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = len(data[: error.start + 1].decode("latin-1").splitlines())
        raise DataError(
            f"Table {file} row {row} is not UTF-8 (byte 0x{error.object[error.start]:02x}): "
            "save the table as UTF-8."
        ) from None
    if not text.strip():
        raise DataError(f"Table {file} is empty: it needs a header and one row per image.")
    return text


def image_names(table: Table, column: str, folder: Path) -> list[str]:
    """The file names of a column, relative to ``folder``, each once and all inside it.

    An absolute name may lead into the folder, and Windows' ``\\`` may part folders.

    Raises:
        DataError: naming file, row and column, for a name that is empty, leads out of the folder,
            or stands in another row too.
    """
    first: dict[str, int] = {}
    for place, value in enumerate(table.columns[column]):
        text = "" if value is None else str(value).strip()
        name = _inside(text, folder)
        if not text:
            problem = "the cell is empty: name an image, or drop the row."
        elif isabs(name) or name == ".." or name.startswith("../"):
            problem = f"{text!r} lies outside the image folder: name a file inside it."
        elif name in first:
            problem = f"{text!r} is in row {table.rows[first[name]]} already: keep one of the rows."
        else:
            first[name] = place
            continue
        raise table.error(place, column, problem)
    return list(first)


def _inside(text: str, folder: Path) -> str:
    """A name relative to the folder, if it is inside; else absolute, or beginning with ``..``."""
    if "\\" in text and not (folder / text).exists():  # elsewhere a name may contain it
        text = text.replace("\\", "/")
    if re.match("[A-Za-z]:/", text):
        text = f"/{text}"
    if not isabs(text):
        return normpath(text)
    name = normpath(text)
    # The folder as it is named, then without links: either may be how the table's writer saw it.
    for root in (abspath(folder), realpath(folder)):
        if name.startswith(f"{root.rstrip('/')}/"):
            return relpath(name, root)
    return name


def _read_csv(file: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The headings, and the rows below, each with the line on which it begins."""
    records = _records(file)
    header = [name.strip() for name in next(records, (1, []))[1]]
    while header and not header[-1]:
        header.pop()
    return header, ((row, _without_blanks(cells, len(header))) for row, cells in records)


def _without_blanks(cells: list[str], columns: int) -> list[str]:
    """The cells of a row, without those beyond the last column that have no text."""
    while len(cells) > columns and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def select_columns(
    file: Path,
    header: Sequence[str],
    columns: Sequence[str],
    records: Iterable[tuple[int, list[str]]],
    uneven: str,
) -> Table:
    """The wanted columns of records, each with its row number and a cell per name of ``header``.

    A DataError of a record of another length names file and row, and ends with ``uneven``.
    """
    if twice := [name for name in columns if header.count(name) > 1]:
        raise DataError(f"Table {file} row 1 has the column '{twice[0]}' twice: drop one.")
    places = [header.index(name) for name in columns]
    kept: dict[int, list[str]] = {}
    for row, record in records:
        if len(record) != len(header):
            raise DataError(f"Table {file} row {row} has {len(record)} {uneven}.")
        kept[row] = [record[place] for place in places]
    values = {name: [cells[i] for cells in kept.values()] for i, name in enumerate(columns)}
    return Table(file, values, list(kept))


def _records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Records that are not blank, each with the line on which it begins."""
    text = read_text(file)
    # A quoted heading may have a comma.
    first = re.sub('"[^"]*"', "", text.lstrip()).splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    # Strict: an unclosed quote is an error, instead of a cell that swallows the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    row = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                yield row, record
            row = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"Table {file} row {row} is not CSV ({error}): check its quotes.") from None


@contextmanager
def _reading_parquet(file: Path) -> Iterator[Any]:
    """The module that reads Parquet; DataError where there is none, and for a damaged file."""
    try:
        import pyarrow  # optional
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"Table {file} is Parquet, which needs pyarrow: run pip install 'diffcf[parquet]', "
            "or save the table as CSV."
        ) from None
    try:
        yield parquet
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"Table {file} is damaged ({reason}): write it again.") from None


def _parquet_header(file: Path) -> list[str]:
    with _reading_parquet(file) as parquet:
        return [name.strip() for name in parquet.read_schema(file).names]


def _read_parquet(file: Path, columns: Sequence[str], optional: Collection[str]) -> Table:
    header = _parquet_header(file)
    columns = _wanted(file, header, columns, optional)
    # Or an error for a column that is twice there.
    select_columns(file, header, columns, [], "")
    with _reading_parquet(file) as parquet:
        names = parquet.read_schema(file).names
        # Not the dataset reader: it would take folder names such as `split=train` for columns.
        table = parquet.ParquetFile(file).read(columns=[names[header.index(c)] for c in columns])
    values = {name: table.column(names[header.index(name)]).to_pylist() for name in columns}
    return Table(file, values, list(range(1, table.num_rows + 1)))


def _wanted(
    file: Path, header: Sequence[str], columns: Sequence[str], optional: Collection[str]
) -> list[str]:
    """``columns``, and the ``optional`` ones of the header; DataError when it lacks a column."""
    if lacking := [name for name in columns if name not in header]:
        present = ", ".join(filter(None, header))
        raise DataError(f"Table {file} has no column '{lacking[0]}': its columns are {present}.")
    return list(dict.fromkeys([*columns, *(name for name in header if name in optional)]))
