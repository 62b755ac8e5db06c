"""Tables as sources of columns: CSV, by the standard library, and parquet, by pyarrow (extra `parquet`)."""

import csv
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bdpo_jax.data.columns import NAMES, Source, flag
from bdpo_jax.errors import UserError

DELIMITERS = ",;\t"
WORDS = {"true": 1.0, "false": 0.0}


def csv_source(path: Path) -> Source:
    """The columns of a text file in UTF-8 with a header line, delimited by comma, semicolon or tab (see `_dialect`).

    Raises:
      UserError: no header, or one of another length than the first row. `take` raises one that names column, row (from
        0) and line (from 1) of a row of another length, a cell that is empty, and one that is neither a number nor true
        or false.
    """
    delimiter, header, cells = _dialect(path)
    names = [name.strip() for name in header]
    if not any(names):
        raise UserError(f"The first line of {path} is empty; it must name the columns.")
    if all(_is_number(name) for name in names):
        raise UserError(f"The first line of {path} holds numbers; put a line with the columns' names above it.")
    if cells and len(cells) != len(names):
        raise UserError(
            f"The first line of {path} has {len(names)} cells, the next one {len(cells)}: the first must name the "
            "columns; remove what stands above the names, or complete it."
        )

    def take(numbers: Sequence[str], labels: Sequence[str], gaps: Sequence[str]) -> tuple[dict, dict]:
        places = [names.index(name) for name in numbers]
        found, texts = [array("d") for _ in numbers], [[] for _ in labels]  # type: ignore[var-annotated]
        named = [(names.index(name), text) for name, text in zip(labels, texts, strict=True)]
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter)
            next(lines)
            for row, cells in enumerate(filter(None, lines)):
                if len(cells) != len(names):
                    raise UserError(
                        f"Row {row} (line {lines.line_num}) of {path} has {len(cells)} cells, the header {len(names)}; "
                        "complete or remove it."
                    )
                try:
                    for place, column in zip(places, found, strict=True):
                        column.append(_as_float(cells[place]))
                except ValueError:  # the column has the cells before this one: words, or a fault
                    for place, column in zip(places, found, strict=True):
                        if len(column) == row:
                            missing = names[place] in gaps and not cells[place].strip()
                            cell = "nan" if missing else cells[place]
                            column.append(_number(cell, names[place], row, lines.line_num, path))
                for place, text in named:
                    label = cells[place].strip()
                    if not label:
                        raise _no_value(names[place], row, lines.line_num, path)
                    text.append(label)
        arrays = {name: np.array(column) for name, column in zip(numbers, found, strict=True)}
        return arrays, {name: np.array(text) for name, text in zip(labels, texts, strict=True)}

    return Source(names, take, is_table=True)


def _dialect(path: Path) -> tuple[str, list[str], list[str]]:
    """Returns the delimiter of a text file, and the cells of its header and of its first row; [] without one.

    The delimiter is one by which the two are as long, if there is one; then the one that gives the most cells.
    """
    found = []
    for delimiter in DELIMITERS:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter)
            found.append((delimiter, next(lines, []), next(filter(None, lines), [])))
    return max(found, key=lambda one: (len(one[1]) == len(one[2]) > 1, len(one[1]), len(one[2])))


def parquet_source(path: Path) -> Source:
    """The columns of a parquet file; one of lists of equal length is an array `[rows, width]`.

    Raises:
      UserError: pyarrow is missing. `take` raises one that names column and row of a missing value, of a list of
        another length, and of a column that holds no numbers.
    """
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path} is a parquet file, which needs pyarrow: pip install '.[parquet]'.") from error

    def take(numbers: Sequence[str], labels: Sequence[str], gaps: Sequence[str]) -> tuple[dict, dict]:
        arrays, lists = {}, (pyarrow.types.is_list, pyarrow.types.is_large_list, pyarrow.types.is_fixed_size_list)
        table = pyarrow.parquet.ParquetFile(path).read(columns=list(dict.fromkeys([*numbers, *labels])))
        for name in table.column_names:
            column = table[name].combine_chunks()
            is_list = any(is_kind(column.type) for is_kind in lists)
            if name not in gaps:
                _refuse_missing(column.is_valid(), name, path)
            width = None
            if is_list:
                filled = column.is_valid().to_numpy(zero_copy_only=False)
                kind = column.type.value_type
                if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)):
                    _refuse_missing(column.is_valid(), name, path)
                column = column.drop_null()
                widths = pyarrow.compute.list_value_length(column).to_numpy()
                width = int(widths[0]) if len(widths) else 0
                other = np.flatnonzero(widths != width)
                if other.size:
                    first, row = np.flatnonzero(filled)[[0, other[0]]]
                    raise UserError(
                        f"The column {name!r} of {path} has {width} numbers in row {first} and {widths[other[0]]} in "
                        f"row {row}; every row needs as many."
                    )
                column = column.flatten()
                if name not in gaps:
                    _refuse_missing(column.is_valid(), name, path, max(width, 1))
            arrays[name] = column.to_numpy(zero_copy_only=False)
            if width is not None:
                arrays[name] = arrays[name].reshape(len(widths), width)
                if not filled.all():  # those of terminal rows
                    whole = np.full((len(filled), width), np.nan)
                    whole[filled] = arrays[name]
                    arrays[name] = whole
        return {name: arrays[name] for name in numbers}, {name: arrays[name] for name in labels}

    return Source(pyarrow.parquet.read_schema(path).names, take, is_table=True)


def _refuse_missing(valid, name: str, path: Path, width: int = 1) -> None:
    valid = valid.to_numpy(zero_copy_only=False)
    if not valid.all():
        row = int(np.argmin(valid)) // width
        raise UserError(
            f"The column {name!r} of {path} has no value in row {row} ({np.sum(~valid)} missing in all); fill in the "
            "value or remove the row's episode."
        )


def _number(cell: str, name: str, row: int, line: int, path: Path) -> float:
    text = cell.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if _is_number(text):
        return _as_float(text)
    if not text:
        raise _no_value(name, row, line, path)
    way = f", or leave it out by {flag('times=none')}" if name in ("times", *NAMES["times"]) else ""
    raise UserError(
        f"The column {name!r} of {path} has {text!r} in row {row} (line {line}), which is no number; replace it by "
        f"one{way}."
    )


def _no_value(name: str, row: int, line: int, path: Path) -> UserError:
    return UserError(
        f"The column {name!r} of {path} has no value in row {row} (line {line}); fill in the value or remove the row's "
        "episode."
    )


def _as_float(text: str) -> float:
    if "_" in text:  # a number to Python alone
        raise ValueError
    return float(text)


def _is_number(text: str) -> bool:
    try:
        _as_float(text)
    except ValueError:
        return False
    return True
