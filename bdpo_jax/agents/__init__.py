"""The algorithms by name; nothing else in the package names one."""

from bdpo_jax.agents import bdpo

AGENTS = {
    "bdpo": bdpo,
}
