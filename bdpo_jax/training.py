"""From a config to results on disk: one run, or a group of members."""

import os
from pathlib import Path

import jax

from bdpo_jax import devices, members, suites
from bdpo_jax.loop import NonFinite, Run
from bdpo_jax.settings import MAY_CHANGE, check_config
from bdpo_jax.types import Stopped
from bdpo_jax.workdir import held

__all__ = ["NonFinite", "Stopped", "run"]


def run(config, workdir: str | Path) -> dict:
    """Trains, evaluates and writes `config` into `workdir`; continues the run that is there.

    With `config.seeds` or `config.sweep` every member has a directory of its own within, as of a single run.

    Returns:
      The contents of `results.json`.

    Raises:
      UserError: the config, the data or the directory does not allow it.
      Stopped: a stop signal came; everything is saved.
      NonFinite: a loss is no number any more; the state is saved under `nonfinite/`. Of a group, after the others' end.
    """
    check_config(config)
    if config.deterministic:  # read when the first computation starts
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(Path(config.compilation_cache).expanduser()))
    configs, path = members.expand(config), Path(workdir)
    for member in configs.values():
        check_config(member)
    suite = suites.make(next(iter(configs.values()), config))
    mesh = devices.make_mesh(1, config.batch_size, config.devices) if not configs else None
    with held(path, config, MAY_CHANGE) as accept:
        if not configs:
            return Run(config, path, suite, mesh).run(accept)
        devices.shared(accept)
        return members.run(config, configs, suite, path)
