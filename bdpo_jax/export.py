"""python -m bdpo_jax.export WORKDIR --out=policy.bin [--policy=NAME] [--candidates=K] [--step=N]

Writes a run's policy into one file that JAX alone can run (docs/deploy.md), by `jax.export`: for batches of any size,
on CPU, GPU and TPU. It maps observations `[batch, observation_dim]`, float32, and the data of a key, uint32 `[2]`, to
actions `[batch, action_dim]` as `load_policy` does. Equal inputs give equal actions.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from bdpo_jax import devices
from bdpo_jax.errors import UserError
from bdpo_jax.policy import Restored, restore_policy
from bdpo_jax.text import set_up_output, tell
from bdpo_jax.workdir import expanded, replacing

PLATFORMS = ("cpu", "cuda", "tpu")
KEYS = "threefry2x32"  # what kind of key the second input is the data of
CHECKED = 64  # observations for which the file is compared with the policy
CALLS = 1_000  # timed


def export(
    workdir: str | Path,
    out: str | Path,
    policy: str = "policy",
    candidates: int | None = None,
    step: int | None = None,
    calls: int = CALLS,
) -> str:
    """Writes the policy of the run in `workdir` to the file `out`, reads it back and tries it.

    Args:
      workdir: directory of a run.
      out: the file; replaced at once.
      policy: as in `load_policy`, and the next two.
      candidates: actions drawn, of which Q picks one; None: as in the run.
      step: which kept checkpoint; None: the latest.
      calls: how many actions are timed.

    Returns:
      The text of the command's output: size, largest difference to the policy, time of one action.

    Raises:
      UserError: what `load_policy` raises; the package `flatbuffers` is missing; the file cannot be written.
    """
    restored = restore_policy(workdir, step, candidates, policy)
    with restored.as_trained(), devices.enough_memory("take fewer candidates"):
        return _export(restored, f"{policy} of {workdir} {restored.trained}", expanded(out), calls)


def _export(restored: Restored, what: str, out: Path, calls: int) -> str:
    """Writes, reads back and tries a policy in the precision in force; returns the text."""

    def act(observations: jax.Array, key_data: jax.Array) -> jax.Array:
        return restored.act(observations, jax.random.wrap_key_data(key_data, impl=KEYS))

    (batch,) = jax_export.symbolic_shape("batch")
    inputs = (
        jax.ShapeDtypeStruct((batch, restored.observation_dim), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    )
    exported = jax_export.export(jax.jit(act), platforms=PLATFORMS)(*inputs)
    try:
        content = exported.serialize()
    except ImportError as error:
        raise UserError(
            'Exporting needs the package flatbuffers, which is not installed: pip install ".[export]".'
        ) from error
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    deployed = jax.jit(jax_export.deserialize(bytearray(out.read_bytes())).call)
    observations = np.random.default_rng(0).normal(size=(CHECKED, restored.observation_dim)).astype(np.float32)
    key = jax.random.key(0, impl=KEYS)
    difference = np.abs(deployed(observations, jax.random.key_data(key)) - jax.jit(restored.act)(observations, key))
    median, late = latency(deployed, observations[:1], calls)
    return (
        f"{out}: {len(content) / 1e6:.2f} MB, {what}, observations [batch, {restored.observation_dim}] "
        f"and key data [2] to actions [batch, {restored.action_dim}], on {', '.join(PLATFORMS)}\n"
        f"largest difference to the policy itself {difference.max():.1e}, for {CHECKED} random observations\n"
        f"one action on {jax.devices()[0].device_kind}: median {median:.3f} ms, 99% within {late:.3f} ms "
        f"({calls} calls)"
    )


def latency(deployed, observations: np.ndarray, calls: int) -> tuple[float, float]:
    """Returns the median and the 99th percentile of a call's wall milliseconds, from NumPy to NumPy, compiled before.

    Args:
      deployed: the exported function.
      observations: its first input.
      calls: how many, each with a key of its own.
    """
    keys = np.random.default_rng(0).integers(0, 2**32, (calls + 1, 2), np.uint32)
    seconds = []
    for key in keys:
        began = time.perf_counter()
        np.asarray(deployed(observations, key))
        seconds.append(time.perf_counter() - began)
    median, late = 1e3 * np.quantile(seconds[1:], (0.5, 0.99))
    return float(median), float(late)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.export", description="Writes a run's policy to a file.")
    parser.add_argument("workdir", help="directory of a run")
    parser.add_argument("--out", default="policy.bin", help="the file")
    parser.add_argument("--policy", default="policy", help="policy, behavior, or another that the algorithm has")
    parser.add_argument("--candidates", type=int, help="actions drawn, of which Q picks one; default: the run's own")
    parser.add_argument("--step", type=int, help="which kept checkpoint; default: the latest")
    options = parser.parse_args(arguments)
    set_up_output()
    try:
        tell(export(**vars(options)))
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
