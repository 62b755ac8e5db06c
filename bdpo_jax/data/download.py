"""Files from the network: whole and checked, or one sentence on what to do by hand."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pooch

from bdpo_jax.errors import UserError

RETRIES = 2  # further attempts per mirror, with pauses of 1, 2, ... seconds
TIMEOUT = 30  # seconds without a byte


def fetch(urls: Sequence[str], path: Path, check: Callable[[Path], object], timeout: float = TIMEOUT) -> Path:
    """Downloads a file from the first of `urls` that gives a good one.

    It arrives in a folder of its own beside `path`, is checked there and moved in one step, so that `path` is whole
    or absent, whatever happens.

    Args:
      urls: where it may be.
      path: where it is to be.
      check: called with the downloaded file, which has the name of `path`; raises a `UserError` if it is not what it
        should be.
      timeout: seconds that a server may be silent.

    Returns:
      `path`.

    Raises:
      UserError: no URL gave a good file; names each with its reason, the place for a copy, and the config key.
    """
    reasons = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            for number, url in enumerate(urls):
                part = Path(folder, str(number), path.name)
                try:
                    _retrieve(url, part, timeout)
                    check(part)
                except Exception as error:
                    reasons.append(f"{url}: {_reason(error).replace(str(part), 'what came')}")
                    continue
                os.replace(part, path)
                return path
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); set $D4RL_DATASET_DIR elsewhere.") from error
    raise UserError(
        f"The download of {path.name} failed ({'; '.join(reasons)}): put a copy of the file into {path.parent}, or let "
        "dataset_path name one (--config.dataset_path=FILE), or set other mirrors."
    )


def _retrieve(url: str, path: Path, timeout: float) -> None:
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=timeout)
    # No hash: pooch would download a file with another one again and again.
    source = pooch.create(
        path.parent, base_url="", registry={path.name: None}, urls={path.name: url}, retry_if_failed=RETRIES
    )
    pooch.get_logger().setLevel("WARNING")
    source.fetch(path.name, downloader=downloader)


def _reason(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    while (behind := error.__cause__ or error.__context__) is not None:
        error = behind
    return f"{type(error).__name__} {error}".strip()
