"""The algorithms by name; nothing else in the package names one."""

from bdpo_jax.agents import bdpo, iql

AGENTS = {
    "bdpo": bdpo,
    "iql": iql,
}
