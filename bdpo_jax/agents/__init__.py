"""The algorithms by name; nothing else in the package names one."""

from bdpo_jax.agents import bdpo, deterministic, gaussian, iql

AGENTS = {
    "bdpo": bdpo,
    "iql": iql,
    "gaussian": gaussian,
    "deterministic": deterministic,
}
