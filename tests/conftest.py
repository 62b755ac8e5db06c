"""A home of their own for the tests: nothing of the user's is read or written, and programs compiled once are kept."""

import os
import platform
import signal
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

HOME = Path(tempfile.gettempdir(), f"bdpo_jax-tests-{os.getuid()}")
HOME.mkdir(exist_ok=True)
os.environ["HOME"] = str(HOME)
# What a run sets itself; here also for the tests of the core.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HOME / ".cache" / "bdpo_jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # the small ones, too: they are many
# Arrays of different ranks are combined where a program says so, never by chance.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Compilation is most of what the tests cost. Unoptimised code takes half of it, and XLA's older way to write a fusion's
# code, without MLIR, half of the rest, where there still is one: a flag that XLA does not know ends the process. It
# fuses otherwise in each program: without fused multiply-adds, which AVX has not, equal arithmetic gives equal bits
# all the same. There are no cores to spare for a program's parts.
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
if platform.machine() == "x86_64":
    FLAGS.append("--xla_cpu_max_isa=AVX")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
# The tests are of numbers on a CPU: an accelerator has others, and JAX speaks of one that it is not installed for.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nor do the surroundings decide: a screen that is gone, a proxy before this machine's own servers, a cluster's job (in
# which JAX would look for the others), no bars.
for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "PMIX_", "PMI_"))]:
    del os.environ[name]
for name in ("DISPLAY", "TQDM_DISABLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(name, None)
    os.environ.pop(name.lower(), None)
# A shell's background job ignores these, and so would every run in it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Frees a file's compiled programs: a process that keeps those of all runs out of memory maps, and crashes."""
    yield
    import jax  # not before the environment is set

    jax.clear_caches()


@pytest.fixture(scope="module")
def no_pictures():
    """For tests of other things."""
    import pictures  # not before the environment is set

    with pytest.MonkeyPatch.context() as patch:
        pictures.leave_out(patch)
        yield


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, for a look inside."""
    from bdpo_jax.plotting import canvas

    saved, save = [], canvas.save
    monkeypatch.setattr(canvas, "save", lambda figure, path: (saved.append(figure), save(figure, path)))
    return saved


# Mesa's drawing was aborted in a worker that had compiled for minutes, and never in a young one.
FIRST = ("test_envs.py",)
LONG = ("test_devices.py", "test_runs.py", "test_contract.py", "test_launch.py", "test_benchmarks.py", "test_engine.py")


def pytest_collection_modifyitems(items):
    """Begins with the longest files, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: (*FIRST, *LONG, item.path.name).index(item.path.name))
