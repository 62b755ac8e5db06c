"""The page that a person reads: one HTML file with its style, script and pictures inside, so that it needs nothing."""

import base64
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from bdpo_jax.report import commands, tables
from bdpo_jax.report.contents import Contents
from bdpo_jax.report.tables import Cell, Row, Table
from bdpo_jax.results import Run, by_label, file_name
from bdpo_jax.text import ERRORS
from bdpo_jax.workdir import replacing

_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_LONG = 40  # characters from which on a cell may break its line


class Picture(NamedTuple):
    """A picture file and what is written below it."""

    path: Path
    caption: str


def write(path: Path, found: Contents, figures: Mapping[str, Sequence[Picture]], refresh: int | None = None) -> None:
    """Writes the page.

    Args:
      path: of the HTML file, replaced at once.
      found: what it tells of.
      figures: drawn for the report, by task; those over several tasks under "".
      refresh: seconds after which a browser reads it again; None: never.
    """
    parts = [_head(found), _warnings(found), _across(found, figures.get("", ()))]
    parts += [_task(task, runs, found, figures.get(task, ())) for task, runs in found.by_task.items()]
    style, script = (_inside(name) for name in ("page.css", "page.js"))
    again = "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">'
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{again}<title>Report of runs</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>\n{style}</style></head>\n<body>\n{''.join(parts)}\n<script>\n{script}</script></body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ERRORS)


def _inside(name: str) -> str:
    return resources.files("bdpo_jax.report").joinpath(name).read_text(encoding="utf-8")


def _anchor(task: str) -> str:
    return f"task-{file_name(task)}"


def _head(found: Contents) -> str:
    scored = sum(run.value is not None for run in found.runs)
    agents = {run.agent for run in found.runs}
    links = [f'<a href="#{_anchor(task)}">{escape(task)}</a>' for task in found.by_task]
    return (
        f"<h1>Report of runs</h1>\n<p>{len(found.runs)} runs, {scored} of them finished and scored: "
        f"{_count(len(found.by_task), 'task')}, {_count(len(agents), 'algorithm')}. "
        f'<span class="pale">Written {time.strftime("%Y-%m-%d %H:%M:%S")}.</span></p>\n'
        f"<nav>{''.join(links)}</nav>\n"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- what is wrong ---


def _warnings(found: Contents) -> str:
    places: dict[tuple[str, str], list[Path]] = {}
    for problem in found.problems:
        places.setdefault((problem.kind, problem.sentence), []).append(problem.path)
    lines = [_problem(paths, *said) for said, paths in places.items()]
    for task, rows in found.rows.items():
        for row in rows:
            if row.notes:
                lines.append(_line("not comparable", f"{task}, {row.label}", "; ".join(row.notes) + "."))
    if not lines:
        return '<div class="box good"><p>No run is missing, unfinished or diverged.</p></div>\n'
    return f'<div class="box" id="warnings"><h2>{_count(len(lines), "warning")}</h2>\n<ul>{"".join(lines)}</ul></div>\n'


def _problem(paths: Sequence[Path], kind: str, sentence: str) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return _line(kind, f"{shown(paths[0])}{more}", sentence)


def _line(kind: str, where: str, sentence: str) -> str:
    return (
        f'<li><span class="kind {kind.replace(" ", "-")}">{escape(kind)}</span> '
        f"<code>{escape(where)}</code>: {escape(sentence)}</li>\n"
    )


def shown(path: Path) -> Path:
    """Returns a path as it is told: from the working directory on where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


# --- sections ---


def _across(found: Contents, figures: Sequence[Picture]) -> str:
    parts = [_table(table) for table in found.across().values()]
    if not parts and not figures:
        return ""
    return f'<section><h2 id="across">Over several tasks</h2>\n{"".join(parts)}{_gallery(figures)}</section>\n'


def _task(task: str, runs: Sequence[Run], found: Contents, figures: Sequence[Picture]) -> str:
    rows = found.rows[task]
    summary = (
        _table(dataclasses.replace(tables.summary(task, rows), title="Scores"))
        if rows
        else "<p>No run has come to its end and been scored.</p>"
    )
    own = _own_pictures(runs, rows)
    gallery = f"<h3>Pictures that the runs drew</h3>\n{_gallery(own)}" if own else ""
    return (
        f'<section><h2 id="{_anchor(task)}">{escape(task)}</h2>\n{summary}{_gallery(figures)}{gallery}'
        f"<h3>Runs and commands</h3>\n{_commands(runs)}</section>\n"
    )


def _own_pictures(runs: Sequence[Run], rows: Sequence[Row]) -> list[Picture]:
    """The picture of each row's first run, in the table's order, and those of sweeps."""
    found = []
    for row in rows:
        run = row.runs[0]
        name = Path((run.results or {}).get("picture") or "").name
        if name and (run.path / name).exists():  # the directory may have been moved since
            score = f"{row.metric} {tables.number(run.value)}"
            found.append(Picture(run.path / name, f"{row.label}, seed {run.config['seed']}: {score}"))
    for directory in dict.fromkeys(run.launched_in for run in runs):
        if (directory / "sweep.png").exists():
            found.append(Picture(directory / "sweep.png", f"sweep of {shown(directory)}"))
    return found


def _commands(runs: Sequence[Run]) -> str:
    """For each label and launch its runs, the command and what differs from the config file."""
    parts = []
    for label, own in by_label(runs).items():
        for directory in dict.fromkeys(run.launched_in for run in own):
            launched = [run for run in own if run.launched_in == directory]
            command = commands.find(launched[0].launched, shown(directory))
            text = (
                f"<pre>{escape(command.text)}</pre>"
                if command.text
                else ("<p>The command is not known: the config names no config file that is at hand.</p>")
            )
            rows = [
                (Cell(key), *(Cell("" if value is None else str(value)) for value in pair))
                for key, pair in command.changes.items()
            ]
            changes = Table("", "", ("setting", "config file", "here"), rows)
            told = _table(changes) if rows else "<p>No setting differs from the config file's.</p>"
            seeds = ", ".join(str(run.config["seed"]) for run in launched)
            parts.append(
                f"<details><summary><b>{escape(label)}</b>, {'seed' if len(launched) == 1 else 'seeds'} {seeds}: "
                f"<code>{escape(str(shown(directory)))}</code></summary>\n{text}{told}"
                f"{_table(tables.every_run(launched))}</details>\n"
            )
    return "".join(parts)


# --- elements ---


def _table(table: Table) -> str:
    """A table without the columns that are empty throughout."""
    kept = [i for i in range(len(table.columns)) if any(row[i].text for row in table.rows)]
    rows = [[row[i] for i in kept] for row in table.rows]
    table = dataclasses.replace(table, columns=[table.columns[i] for i in kept], rows=rows)
    classes = ["published" if column in table.published else "" for column in table.columns]
    head = "".join(f'<th class="{c}">{escape(name)}</th>' for c, name in zip(classes, table.columns, strict=True))
    body = "\n".join(
        f"<tr>{''.join(_cell(cell, c) for cell, c in zip(row, classes, strict=True))}</tr>" for row in table.rows
    )
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    inside = f"{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    return f'{title}<div class="scroll"><table>{inside}</table></div>\n'


def _cell(cell: Cell, column: str) -> str:
    is_number = isinstance(cell.value, int | float)
    names = [column, "number" if is_number else "", "marked" if cell.note else ""]
    names.append("long" if len(cell.text) > _LONG else "")
    value = "" if cell.value is None else f' data-value="{escape(str(cell.value))}"'
    note = f' title="{escape(cell.note)}"' if cell.note else ""
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    return f'<td class="{" ".join(filter(None, names))}"{value}{note}>{text}</td>'


def _gallery(pictures: Iterable[Picture]) -> str:
    parts = []
    for path, caption in pictures:
        image, below = (
            f'<img alt="{escape(caption)}" src="{_data(path)}">',
            f"<figcaption>{escape(caption)}</figcaption>",
        )
        parts.append(f"<figure>{image}{below}</figure>\n")
    return f'<div class="pictures">{"".join(parts)}</div>\n'


def _data(path: Path) -> str:
    """A picture as a URL that holds it."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
