"""The algorithms by name; nothing else in the package names one."""

from bdpo_jax.agents import (
    bdpo,
    cql,
    dac,
    decision_diffuser,
    deterministic,
    diffusion_ql,
    dtql,
    fql,
    gaussian,
    idql,
    iql,
    qgpo,
    rebrac,
    sfbc,
)

AGENTS = {
    "bdpo": bdpo,
    "dac": dac,
    "diffusion_ql": diffusion_ql,
    "iql": iql,
    "idql": idql,
    "dtql": dtql,
    "qgpo": qgpo,
    "sfbc": sfbc,
    "decision_diffuser": decision_diffuser,
    "cql": cql,
    "fql": fql,
    "rebrac": rebrac,
    "gaussian": gaussian,
    "deterministic": deterministic,
}
