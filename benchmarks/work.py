"""What an update must compute: multiplications and activations, counted from the sizes alone."""

import dataclasses

from bdpo_jax.networks import TIME_WIDTH


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Uses of one network in an update.

    Attributes:
      name: what for.
      rows: action rows of one use.
      uses: how many (diffusion steps, ensemble members).
      width: of the hidden layers.
      forward: multiply-adds of one forward pass.
      total: multiply-adds, backward passes included.
      activations: elements that pass the activation, forward.
      norms: elements that pass a layer norm, forward.
    """

    name: str
    rows: int
    uses: int
    width: int
    forward: float
    total: float
    activations: float
    norms: float


def _evaluation(name, widths, outputs, state, action, time_rows, rows, states, uses, backward, norm=True) -> Evaluation:
    """`backward` is "", "parameters" or "inputs" (of the actions alone); `norm` is whether hidden layers are normed."""
    first, last = widths[0], widths[-1]
    hidden = sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True))
    observed, acted = states * state * first, rows * action * first
    inner, out = rows * hidden, rows * last * outputs
    times = time_rows * (2 * TIME_WIDTH * TIME_WIDTH * (2 if outputs == 1 else 1) + TIME_WIDTH * first)
    forward = observed + acted + inner + out + times
    total = forward
    if backward == "parameters":  # kernels' gradients, and those of the hidden inputs
        total += forward + inner + out
    if backward == "inputs":
        total += acted + inner + out
    elements = uses * rows * sum(widths)
    return Evaluation(name, rows, uses, max(widths), uses * forward, uses * total, elements, norm * elements)


def pretraining(static, observation_dim: int, batch: int) -> list[Evaluation]:
    """The evaluations of one update of the behavior model."""
    times = static.diffusion_steps + 1
    actor = (static.actor_widths, static.action_dim, observation_dim, static.action_dim, times)
    return [_evaluation("behavior loss", *actor, batch, batch, 1, "parameters", static.actor_layer_norm)]


def training(static, observation_dim: int, batch: int) -> tuple[list[Evaluation], list[Evaluation]]:
    """The evaluations of a critic update, and those that an actor update adds."""
    members, samples, steps = static.ensemble_size, static.actor_samples, static.diffusion_steps
    sizes = (observation_dim, static.action_dim)
    actor, actor_norm = (static.actor_widths, static.action_dim, *sizes, steps + 1), static.actor_layer_norm
    q, q_norm = (static.value_widths, 1, *sizes, 0), static.q_layer_norm
    v = (static.value_widths, 1, *sizes, steps + 1)
    ones = -(-batch // steps) if static.stratified else batch
    others = batch - ones if static.stratified else batch
    many = others * samples
    critics = [
        _evaluation("Q loss", *q, batch, batch, members, "parameters", q_norm),
        _evaluation("V loss", *v, batch, batch, members, "parameters"),
        _evaluation("one step, actor and behavior", *actor, batch, batch, 2, "", actor_norm),
        _evaluation("Q at n = 1", *q, ones, ones, members, "", q_norm),
    ]
    if steps > 1:
        critics.append(_evaluation("V at n > 1", *v, many, others, members, ""))
    if not static.one_step:
        rows = batch * samples
        critics.append(_evaluation("path at s', actor and behavior", *actor, rows, batch, 2 * steps, "", actor_norm))
        critics.append(_evaluation("Q at s'", *q, rows, batch, members, "", q_norm))
    actors = [
        _evaluation("actor", *actor, batch, batch, 1, "parameters", actor_norm),
        _evaluation("behavior", *actor, batch, batch, 1, "", actor_norm),
        _evaluation("Q at n = 1, for the actor", *q, ones, ones, members, "inputs", q_norm),
    ]
    if steps > 1:
        actors.append(_evaluation("V at n > 1, for the actor", *v, many, others, members, "inputs"))
    return critics, actors
