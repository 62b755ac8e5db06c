"""Tables as files: CSV with plain numbers, LaTeX with booktabs."""

import csv
from pathlib import Path

from bdpo_jax.report.tables import MARK, Cell, Table
from bdpo_jax.text import ERRORS
from bdpo_jax.workdir import replacing

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"±": r"$\pm$", MARK: r"$^\dagger$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"\\": r"\textbackslash{}", "<": "$<$", ">": "$>$"},
}


def write(folder: Path, name: str, table: Table) -> None:
    """Writes a table as NAME.csv and NAME.tex into a folder."""
    with (
        replacing(folder / f"{name}.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors=ERRORS) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(table.columns)
        for row in table.rows:
            writer.writerow([cell.text if cell.value is None else cell.value for cell in row])
    with replacing(folder / f"{name}.tex") as temporary:
        temporary.write_text(latex(table), encoding="utf-8", errors=ERRORS)


def latex(table: Table) -> str:
    """Returns a table for LaTeX (package booktabs); bold entries are bold, notes come after the caption."""
    shown = [index for index, column in enumerate(table.columns) if column not in table.wide]
    head = " & ".join(_escape(table.columns[index]) for index in shown)
    lines = [" & ".join(_entry(row[index]) for index in shown) + r" \\" for row in table.rows]
    notes = list(dict.fromkeys(f"{row[0].value}: {cell.note}" for row in table.rows for cell in row if cell.note))
    caption = " ".join([table.caption, *(f"{note}." for note in notes)])
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escape(table.title)}. {_escape(caption)}}}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(shown) - 1)}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _entry(cell: Cell) -> str:
    text = _escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
