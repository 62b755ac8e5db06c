"""The algorithms by name; nothing else in the package imports one."""

from collections.abc import Mapping

from bdpo_jax import settings
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


def budget(config: Mapping) -> int:
    """Returns the updates of all phases that a config asks for; 0 where its algorithm is unknown."""
    agent = AGENTS.get(config.get("agent", ""))
    if agent is None:
        return 0
    known = {field.name: config[field.name] for field in settings.fields_of(agent) if field.name in config}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return sum(phase.updates for phase in agent.phases(settings.make(agent, **values)))
