"""python -m bdpo_jax.report RUNS... [--out=report] [--watch] [--every=30]

Writes what the runs in some directories come to: `index.html`, a page that needs no network, tables (by task, beside
the paper's, of every run) and figures (PNG and SVG). Directories are those of runs, of groups, or lie above several of
these. `--watch` writes it again while runs go on, and an open page follows.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bdpo_jax import results
from bdpo_jax.errors import UserError
from bdpo_jax.report import contents, figures, page, tables, writing
from bdpo_jax.report.contents import Contents
from bdpo_jax.text import set_up_output, tell
from bdpo_jax.workdir import expanded

RESERVED = r"runs|table1|over_tasks_\d+"  # tables that are of no task


def write(found: Contents, out: Path, refresh: int | None = None) -> None:
    """Writes the tables, figures and the page of a report into `out`.

    Args:
      found: what it tells of.
      out: folder.
      refresh: seconds after which a browser reads the page again; None: never.
    """
    folder = out / "tables"
    for name, table in found.across().items():
        writing.write(folder, name, table)
    for task, table in found.summaries().items():
        writing.write(folder, results.file_name(task, RESERVED), table)
    writing.write(folder, "runs", tables.every_run(found.runs))
    page.write(out / "index.html", found, figures.draw(found, out / "figures"), refresh)


def watch(directories: Sequence[str], out: Path, every: int, sleep: Callable[[float], object] = time.sleep) -> Contents:
    """Writes a report again and again, until no run goes on; returns what it told last.

    A run that was killed counts as going on: then a signal ends the watch.

    Args:
      directories: of runs, of groups, or above them.
      out: folder of the report.
      every: seconds between the end of one report and the beginning of the next.
      sleep: waits so many seconds.

    Raises:
      UserError: a directory does not exist, or holds no run.
    """
    while True:
        found = contents.read(directories)
        write(found, out, every if found.going_on else None)
        if not found.going_on:
            return found
        sleep(every)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.report", description="Writes a report of runs.")
    parser.add_argument("directories", nargs="+", metavar="RUNS", help="of runs, of groups, or above them")
    parser.add_argument("--out", default="report", help="folder of the report; default: report")
    parser.add_argument("--watch", action="store_true", help="write it again while runs go on")
    parser.add_argument("--every", type=int, default=30, help="seconds between two reports of --watch; default: 30")
    options = parser.parse_args(arguments)
    set_up_output()
    if options.every < 1:
        parser.error("--every must be 1 or more")
    try:
        out = expanded(options.out)
        if options.watch:
            tell(f"Watching; the page is {out / 'index.html'}, Ctrl-C ends this.")
            found = watch(options.directories, out, options.every)
        else:
            found = contents.read(options.directories)
            write(found, out)
    except UserError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    for problem in found.problems:
        tell(f"{problem.kind}: {problem.path}: {problem.sentence}", error=True)
    counts = ((len(found.runs), "run"), (len(found.rows), "task"))
    runs, in_tasks = (f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts)
    tell(f"{runs} of {in_tasks}: {out / 'index.html'}")
