"""Devices and processes: one mesh over all of them, runs first and then the batch; the first process writes."""

import contextlib
import functools
import inspect
import math
import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bdpo_jax.errors import Stopped, UserError
from bdpo_jax.text import tell

RUN, BATCH = "run", "batch"
PATIENCE = 30  # seconds without a sign of life after which a process counts as dead

T = TypeVar("T")


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Makes this process one of a job; before anything else of JAX.

    Args:
      coordinator: "HOST:PORT" of the first process; None, like the others, asks the cluster (Slurm, TPU, Kubernetes,
        Open MPI).
      processes: how many.
      process: which of them this is.

    Raises:
      UserError: there is no such cluster, or the others did not come.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    patience: dict[str, Any] = {"heartbeat_timeout_seconds": PATIENCE}
    known = inspect.signature(jax.distributed.initialize).parameters
    try:
        jax.distributed.initialize(
            coordinator, processes, process, **{key: value for key, value in patience.items() if key in known}
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes of the job did not find each other ({str(error).splitlines()[0][:200]}): give "
            "--coordinator=HOST:PORT, --processes and --process, or leave --distributed out for a single one."
        ) from error


def require() -> None:
    """Raises a `UserError` where JAX finds no device of the kind that `JAX_PLATFORMS` names."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        found = str(error).splitlines()[:1]
        name = "JAX_PLATFORM_NAME" if os.environ.get("JAX_PLATFORM_NAME") else "JAX_PLATFORMS"
        raise UserError(
            f"JAX finds no device ({name} is {os.environ.get(name, '')!r}{', ' if found else ''}"
            f"{''.join(found)[:200]}): install the extra for it, cuda12 or tpu, or unset {name}."
        ) from error


@contextlib.contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Turns a lack of memory within the block, of the host's or of a device's, into a UserError.

    Args:
      remedy: what to do.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        told = " ".join(str(error).split())[:150]  # Python's own says nothing
        raise UserError(f"There is not enough memory{f' ({told})' if told else ''}: {remedy}.") from error


def make_mesh(runs: int, batch_size: int, limit: int = 0) -> Mesh | None:
    """Returns the mesh of axes (run, batch), or None for a single device.

    Args:
      runs: how many train side by side; they are spread first, as far as they divide evenly.
      batch_size: of an update; the devices that the runs leave share it.
      limit: of devices, of a single process; 0: all.

    Raises:
      UserError: the batch does not divide, or a limit in a job of several processes.
    """
    found = jax.devices()
    if limit and jax.process_count() > 1:
        raise UserError(f"config.devices is {limit}; a job of several processes uses all devices, so it must be 0.")
    if limit > len(found):
        raise UserError(f"config.devices is {limit}; there are {len(found)} devices.")
    found = found[: limit or None]
    if len(found) == 1:
        return None
    rows = math.gcd(len(found), runs)
    columns = len(found) // rows
    if batch_size % columns:
        raise UserError(
            f"config.batch_size is {batch_size}, which {columns} devices cannot share evenly; give a multiple of "
            f"{columns}, or config.devices=1."
        )
    return Mesh(np.array(found).reshape(rows, columns), (RUN, BATCH))


def place(tree: Any, mesh: Mesh | None, stacked: bool = False) -> Any:
    """Puts host arrays on every device of the mesh; leading axes of `stacked` ones are spread over its runs."""
    if mesh is None:
        return jax.tree.map(jnp.array, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(RUN) if stacked else PartitionSpec()))


def constrain(tree: Any, mesh: Mesh | None, *axes: str) -> Any:
    """Within a program: spreads leading axes as named, and copies to all devices where no axis is named."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def fetch(tree: Any, mesh: Mesh | None) -> Any:
    """Returns host arrays, in every process; all must call it where the mesh has several."""
    if mesh is not None and jax.process_count() > 1:
        tree = _gather(mesh)(tree)
    return jax.device_get(tree)


@functools.cache  # a new function would be compiled at each call
def _gather(mesh: Mesh) -> Callable[[T], T]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))


def host_device() -> jax.Device | None:
    """The processor as a JAX device where training has another one; None where it trains itself, or is hidden."""
    if jax.default_backend() == "cpu":
        return None
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names the accelerator alone
        return None


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model, where the system names it, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {processors()} cores"


def memory() -> int | None:
    """The bytes of memory of a device; None where JAX does not say, as of a processor."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit")


def is_first() -> bool:
    return jax.process_index() == 0


def say(text: str, error: bool = False) -> None:
    """Prints once for the job, as `tell`."""
    if is_first():
        tell(text, error)


def leave(text: str) -> None:
    """Ends a process of a job at once: an orderly end would wait for the others, and they for this one."""
    print(text, file=sys.stderr, flush=True)
    os._exit(1)


def shared(function: Callable[[], T], owner: int = 0) -> T:
    """Returns `function()` of one process in all of them, which must all call this; its errors, too.

    Only a `UserError` or a `Stopped` is passed on: after any other error the process ends, and with it the job.
    """
    if jax.process_count() == 1:
        return function()
    here, result, error = jax.process_index() == owner, None, None
    if here:
        try:
            result = function()
        except (UserError, Stopped) as caught:
            error = caught
    sent = np.frombuffer(pickle.dumps((result, error)), np.uint8) if here else np.zeros(0, np.uint8)
    halves = np.array(divmod(sent.size, 2**30), np.int32)  # a message may be larger than an int32 can say
    high, low = np.asarray(multihost_utils.broadcast_one_to_all(halves, is_source=here))
    size = int(high) * 2**30 + int(low)
    text = multihost_utils.broadcast_one_to_all(sent if here else np.zeros(size, np.uint8), is_source=here)
    result, error = pickle.loads(np.asarray(text, np.uint8).tobytes())
    if error is not None:
        raise error
    return result


def agreed(number: int) -> int:
    """Returns the largest `number` of all processes, which must all call this."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def size_of(tree: Any) -> int:
    """Returns the bytes of a tree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
