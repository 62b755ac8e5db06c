"""The algorithms by name; nothing else in the package names one."""

from bdpo_jax.agents import bdpo, dac, deterministic, gaussian, iql

AGENTS = {
    "bdpo": bdpo,
    "dac": dac,
    "iql": iql,
    "gaussian": gaussian,
    "deterministic": deterministic,
}
