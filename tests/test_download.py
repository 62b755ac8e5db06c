"""Downloads from a local server that misbehaves in the ways that servers do."""

import hashlib
import http.server
import threading
import time

import h5py
import numpy as np
import pytest

from bdpo_jax.data import d4rl, download
from bdpo_jax.errors import UserError

FILE = "hopper_medium-v2.hdf5"
UNKNOWN = d4rl.TASKS["antmaze-medium-play-v2"].file  # the one without a known checksum


@pytest.fixture
def good(tmp_path):
    """The bytes of a small file in D4RL's format."""
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "source.hdf5", "w") as file:
        file["observations"] = random.normal(size=(600, 11)).astype(np.float32)
        file["actions"] = random.uniform(-1, 1, (600, 3)).astype(np.float32)
        file["rewards"] = random.normal(size=600).astype(np.float32)
        file["terminals"] = np.zeros(600, bool)
        file["timeouts"] = np.arange(1, 601) % 100 == 0
    return (tmp_path / "source.hdf5").read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        behaviour = self.path.split("/")[1]
        body = self.server.body[: 20_000 if behaviour == "truncated" else None]
        if behaviour == "forbidden":
            self.send_error(403)
            return
        if behaviour == "flaky" and len(self.server.paths) == 1:
            self.close_connection = True
            return  # not even a status line
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "dropped":
            self.wfile.write(body[: len(body) // 2])
        elif behaviour == "wrong":
            self.wfile.write(b"<html>" + bytes(len(body) - 6))
        elif behaviour == "silent":
            self.wfile.write(body[:10])
            time.sleep(3)
        elif behaviour == "slow":
            for piece in (body[:1000], body[1000:2000], body[2000:]):
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(0.3)
        else:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(good, monkeypatch):
    """A server whose file is D4RL's own."""
    monkeypatch.setattr(download, "RETRIES", 1)
    monkeypatch.setattr(d4rl, "known_files", lambda: {FILE: (len(good), hashlib.sha256(good).hexdigest())})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.body, server.paths = True, good, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("behaviour", ["good", "slow", "flaky"])
def test_a_file_arrives_whole_and_stays(tmp_path, server, good, behaviour):
    cache = tmp_path / "cache"
    path = d4rl.find("hopper-medium-v2", cache_dir=str(cache), mirrors=[f"{server.url}/{behaviour}"])
    assert path == cache / FILE and path.read_bytes() == good
    assert server.paths == [f"/{behaviour}/gym_mujoco_v2/{FILE}"] * (2 if behaviour == "flaky" else 1)
    assert names(cache) == [FILE]
    d4rl.find("hopper-medium-v2", cache_dir=str(cache), mirrors=[f"{server.url}/good"])
    assert len(server.paths) <= 2, "a file that is there was downloaded again"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("forbidden", "HTTP status 403"),
        ("dropped", "IncompleteRead|ConnectionReset|ChunkedEncoding"),
        ("truncated", r"its SHA-256 is \w{64} \(20000 bytes\), that of D4RL's file is \w{64} \(\d{5} bytes\)"),
        ("wrong", "its SHA-256 is .*, that of D4RL's file is "),
    ],
)
def test_a_bad_download_leaves_nothing_and_says_what_to_do(tmp_path, server, behaviour, reason):
    cache, url = tmp_path / "cache", f"{server.url}/{behaviour}"
    with pytest.raises(UserError, match=reason) as caught:
        d4rl.find("hopper-medium-v2", cache_dir=str(cache), mirrors=[url])
    assert names(cache) == []
    for wanted in (f"{url}/gym_mujoco_v2/{FILE}", str(cache), "--config.dataset_path=FILE"):
        assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.paths) == (2 if behaviour in ("forbidden", "dropped") else 1)


def test_a_server_that_falls_silent_is_given_up(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 0)
    target = tmp_path / FILE
    with pytest.raises(UserError, match="[Tt]imed? ?out"):  # the server's own end would be one of too few bytes
        download.fetch([f"{server.url}/silent/{FILE}"], target, d4rl.read, timeout=0.3)
    assert not target.exists()


def test_the_next_mirror_is_tried(tmp_path, server, good):
    mirrors = [f"{server.url}/{behaviour}" for behaviour in ("forbidden", "wrong", "good")]
    path = d4rl.find("hopper-medium-v2", cache_dir=str(tmp_path / "cache"), mirrors=mirrors)
    assert path.read_bytes() == good


def test_a_mirror_may_be_a_template(tmp_path, server, good):
    mirror = f"{server.url}/good/resolve/main/{{file}}?download=true"
    path = d4rl.find("hopper-medium-v2", cache_dir=str(tmp_path), mirrors=[mirror])
    assert server.paths == [f"/good/resolve/main/{FILE}?download=true"]
    assert path == tmp_path / FILE and path.read_bytes() == good


def test_a_file_packed_anew_is_refused_as_a_download_only(tmp_path, server, good):
    server.body = good + b"\0"  # HDF5 reads it all the same
    cache, own = tmp_path / "cache", tmp_path / "own.hdf5"
    found = [hashlib.sha256(content).hexdigest() for content in (server.body, good)]
    with pytest.raises(UserError, match=f"its SHA-256 is {found[0]} .*, that of D4RL's file is {found[1]} ") as caught:
        d4rl.find("hopper-medium-v2", cache_dir=str(cache), mirrors=[f"{server.url}/good"])
    assert "a file packed anew is used where --config.dataset_path=FILE names it" in str(caught.value)
    assert "what came" not in str(caught.value) and names(cache) == []
    own.write_bytes(server.body)
    assert d4rl.load("hopper-medium-v2", str(own)).size == 594
    (cache / FILE).write_bytes(server.body)
    assert d4rl.find("hopper-medium-v2", cache_dir=str(cache)) == cache / FILE


def test_a_file_without_a_known_checksum_must_be_readable(tmp_path, server, good):
    arguments = {"task": "antmaze-medium-play-v2", "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(UserError, match="what came is not a readable HDF5 file, perhaps truncated"):
        d4rl.find(**arguments, mirrors=[f"{server.url}/truncated"])
    assert d4rl.find(**arguments, mirrors=[f"{server.url}/good"]).read_bytes() == good
    assert names(tmp_path / "cache") == [UNKNOWN]


def test_without_a_network_the_sentence_names_url_place_and_key(tmp_path):
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/gym_mujoco_v2/.*put a copy .*dataset_path"):
        d4rl.find("hopper-medium-v2", cache_dir=str(tmp_path), mirrors=["http://127.0.0.1:9"])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*D4RL_DATASET_DIR"):
        d4rl.find("hopper-medium-v2", cache_dir=str(tmp_path / "file" / "cache"), mirrors=["http://127.0.0.1:9"])
