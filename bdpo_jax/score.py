"""python -m bdpo_jax.score WORKDIR [--episodes=20] [--seed=0] [--policy=NAME] [--candidates=K] [--backend=B] [--step=N]

Scores the policy of a run by whole episodes, whose starts and noise `--seed` decides: return and normalised score with
95% bootstrap intervals, and what the simulation cost. What is not given is the run's own.
"""

import argparse
import sys

from bdpo_jax import devices, envs, evaluation, tasks
from bdpo_jax.errors import UserError
from bdpo_jax.policy import deploy, read_run, restore_policy
from bdpo_jax.text import set_up_output, tell


def score(
    workdir: str, episodes: int, seed: int, policy: str, candidates: int | None, backend: str, step: int | None
) -> str:
    """Returns the text of the command's output.

    Raises:
      UserError: no run or checkpoint there, or its task has no environment.
    """
    config = read_run(workdir, "family", "task", "agent", "seed")
    config.env = getattr(config, "env", "")
    if backend and config.family != "d4rl":
        raise UserError(f"{config.task} has no other backend; leave --backend out.")
    config.backend = backend or getattr(config, "backend", "mujoco")
    make = tasks.environment(config)
    if make is None:
        raise UserError(f"The run in {workdir} has no environment to be scored in.")
    restored = restore_policy(workdir, step, candidates, policy)
    with devices.enough_memory("take fewer episodes or candidates"):
        found = evaluation.evaluate(deploy(restored), make, episodes, seed)
    where = f"{config.task} ({config.backend})" if config.family == "d4rl" else config.env or config.task
    lines = [f"{policy} of {workdir} {restored.trained}, in {where}, {episodes} episodes, seed {seed}"]
    low, high = evaluation.bootstrap_interval(found.returns)
    lines.append(f"return {found.returns.mean():.2f}, 95% interval {low:.2f} to {high:.2f}")
    scores = tasks.normalize(config, found.returns)
    if scores is not None:
        low, high = evaluation.bootstrap_interval(scores)
        lines.append(f"normalized score {scores.mean():.1f}, 95% interval {low:.1f} to {high:.1f}")
    if found.success is not None:
        lines.append(f"success {found.success:.0%}")
    lines.append(
        f"mean length {found.lengths.mean():.0f}; {found.env_ms_per_step:.3f} ms per environment step, "
        f"{found.policy_share:.0%} of the time in the policy (compilation included)"
    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bdpo_jax.score", description="Scores the policy of a run.")
    parser.add_argument("workdir", help="directory of a run")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of start states and of the policy's noise")
    parser.add_argument("--policy", default="policy", help="policy, behavior, or another that the algorithm has")
    parser.add_argument("--candidates", type=int, help="actions drawn, of which Q picks one; default: the run's own")
    parser.add_argument("--backend", default="", choices=("", *envs.BACKENDS), help="default: the run's own")
    parser.add_argument("--step", type=int, help="which kept checkpoint; default: the latest")
    options = parser.parse_args(arguments)
    set_up_output()
    try:
        if not 0 <= options.seed < 2**32:
            raise UserError(f"--seed is {options.seed}; it must be from 0 to {2**32 - 1}.")
        tell(score(**vars(options)))
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
