"""The algorithms by name; nothing else in the package names one."""

from bdpo_jax.agents import bdpo, dac, deterministic, diffusion_ql, gaussian, iql

AGENTS = {
    "bdpo": bdpo,
    "dac": dac,
    "diffusion_ql": diffusion_ql,
    "iql": iql,
    "gaussian": gaussian,
    "deterministic": deterministic,
}
