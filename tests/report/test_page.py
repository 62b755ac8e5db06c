"""The page: one file that needs nothing, with the runs' numbers and what is wrong; in a browser where there is one."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from directories import make_group, make_run

from bdpo_jax.report import command

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PIXEL = bytes.fromhex(  # a PNG file of one white pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


class Reader(HTMLParser):
    """Collects tables as lists of rows of texts, addresses that are loaded, and each element's end."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text):
        if self.open and {"td", "th"} & set(self.open[-2:]):
            self.tables[-1][-1][-1] += text


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a group of BDPO with one run that diverged, and of a run of IQL that is not finished."""
    path = tmp_path_factory.mktemp("report")
    group = make_group(path / "runs" / "group", seeds=(0, 1, 2), eta=0.2)
    make_run(group / "seed0", 0.5), make_run(group / "seed1", 12.25, seed=1)
    (group / "seed0" / "pointmass.png").write_bytes(PIXEL)
    (make_run(group / "seed2", seed=2) / "nonfinite" / "9000").mkdir(parents=True)
    make_run(path / "runs" / "iql<b>", step=None, agent="iql")
    for name in ("other", "third"):
        make_run(path / "runs" / name, {"other": -2.0, "third": 3.0}[name], rho={"other": 0.0, "third": 2.0}[name])
    found = json.loads((group / "seed0" / "results.json").read_text("utf-8")) | {"picture": "/elsewhere/pointmass.png"}
    (group / "seed0" / "results.json").write_text(json.dumps(found))
    command.main([str(path / "runs"), f"--out={path / 'out'}"])
    return path / "out" / "index.html"


def test_the_page_is_one_file_and_tells_the_runs_numbers(report):
    found = Reader(report.read_text("utf-8"))
    assert not found.open
    assert all(source.startswith(("data:image/", "#")) for source in found.sources)  # nothing is fetched
    header, *rows = found.tables[0]
    assert [dict(zip(header, row, strict=True))["return"] for row in rows] == ["6.38", "3.00", "-2.00"]
    assert rows[0][0] == "bdpo rho=1.0" and dict(zip(header, rows[0], strict=True))["seeds"] == "2"


def test_the_page_shows_the_picture_of_a_directory_that_was_moved(report):
    assert any(source.startswith("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEA") for source in
               Reader(report.read_text("utf-8")).sources)  # fmt: skip


def test_the_page_warns_of_what_is_missing(report):
    box = re.search(r'<div class="box" id="warnings">(.*?)</div>', report.read_text("utf-8"), re.DOTALL)[1]
    assert "<h2>2 warnings</h2>" in box
    assert "diverged" in box and "after 9,000 of 13,000 updates" in box
    assert "unfinished" in box and "iql&lt;b&gt;" in box


def test_the_page_has_commands_and_what_differs(report):
    text = report.read_text("utf-8")
    assert "--workdir=" in text and "--config.eta=0.2" in text and "&#x27;--config.seeds=(0, 1, 2)&#x27;" in text
    tables = Reader(text).tables
    (changes,) = [table for table in tables if ["seeds", "[]", "[0, 1, 2]"] in table]
    assert changes[0] == ["setting", "config file", "here"] and ["eta", "0.1", "0.2"] in changes


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_shows_it_and_sorts_its_tables(report):
    clicked = report.with_name("clicked.html")
    script = (
        "document.querySelectorAll('th')[1].click(); document.body.dataset.width = document.images[0].naturalWidth;"
    )
    text = report.read_text("utf-8").replace("</body>", f"<script>onload = () => {{ {script} }};</script></body>")
    clicked.write_text(text)
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom")
    done = subprocess.run(
        [BROWSER, *options, clicked.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    header, *rows = Reader(done.stdout).tables[0]
    assert header[1] == "return" and 'aria-sort="ascending"' in done.stdout
    assert [row[1] for row in rows] == ["-2.00", "3.00", "6.38"]  # as numbers, and from the least on
    assert 'data-width="' in done.stdout and 'data-width="0"' not in done.stdout  # the picture was read


def test_a_directory_whose_name_is_no_text_is_told_of(tmp_path):
    make_run(tmp_path / os.fsdecode(b"run\xff"))
    command.main([str(tmp_path), f"--out={tmp_path / 'report'}"])
    assert "run\\udcff" in (tmp_path / "report" / "tables" / "runs.csv").read_text("utf-8")
