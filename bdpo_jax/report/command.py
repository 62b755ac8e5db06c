"""python -m bdpo_jax.report RUNS... [--out=report]

Writes what the runs in some directories come to: `index.html`, a page that needs no network, tables (by task, beside
the paper's, of every run) and figures (PNG and SVG). Directories are those of runs, of groups, or lie above several of
these.
"""

import argparse
import sys
from pathlib import Path

from bdpo_jax.errors import UserError
from bdpo_jax.report import contents, figures, page, tables, writing
from bdpo_jax.report.contents import Contents


def write(found: Contents, out: Path) -> None:
    """Writes the tables, figures and the page of a report into `out`."""
    folder = out / "tables"
    for name, table in found.across().items():
        writing.write(folder, name, table)
    for task, table in found.summaries().items():
        writing.write(folder, writing.file_name(task), table)
    writing.write(folder, "runs", tables.every_run(found.runs))
    page.write(out / "index.html", found, figures.draw(found, out / "figures"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.report", description="Writes a report of runs.")
    parser.add_argument("directories", nargs="+", metavar="RUNS", help="of runs, of groups, or above them")
    parser.add_argument("--out", default="report", help="folder of the report; default: report")
    options = parser.parse_args(arguments)
    out = Path(options.out)
    try:
        found = contents.read(options.directories)
        write(found, out)
    except UserError as error:
        sys.exit(f"Error: {error}")
    for problem in found.problems:
        print(f"{problem.kind}: {problem.path}: {problem.sentence}", file=sys.stderr)
    print(f"{len(found.runs)} runs of {len(found.rows)} tasks: {out / 'index.html'}")
