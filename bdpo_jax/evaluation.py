"""Policy + environments -> episodes, and an interval for their mean."""

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import gymnasium
import jax
import numpy as np

from bdpo_jax import devices, envs
from bdpo_jax.envs import contract
from bdpo_jax.errors import Diverged, UserError
from bdpo_jax.types import Array

_step_key = jax.jit(jax.random.fold_in)


@dataclasses.dataclass(frozen=True)
class Episodes:
    """What an evaluation saw.

    Attributes:
      returns: `[episodes]` undiscounted sums of rewards, float64.
      lengths: `[episodes]` steps, int64.
      infos: the last `info` of each episode.
      policy_seconds: wall time in the policy, with its compilation where this was its first call.
      env_seconds: wall time in the environments.
    """

    returns: np.ndarray
    lengths: np.ndarray
    infos: list[dict]
    policy_seconds: float
    env_seconds: float

    @property
    def env_ms_per_step(self) -> float:
        """Wall milliseconds in the environments per environment step, resets included."""
        return 1e3 * self.env_seconds / int(self.lengths.sum())

    @property
    def policy_share(self) -> float:
        """Fraction of the wall time that went to the policy."""
        return self.policy_seconds / (self.policy_seconds + self.env_seconds)

    @property
    def success(self) -> float | None:
        """Share of the episodes that ended in success; None where an environment does not say so by one number.

        Environments call it `success` or, as gymnasium-robotics and its relatives do, `is_success`.
        """
        for key in ("success", "is_success"):
            try:
                return float(np.mean([float(np.asarray(info[key]).item()) for info in self.infos]))
            except (KeyError, TypeError, ValueError):  # of an info without one number
                continue
        return None


def evaluate(
    policy: Callable[[np.ndarray, jax.Array], Array],
    task: str | Callable[[], gymnasium.Env],
    episodes: int,
    seed: int,
    backend: str = "mujoco",
    workers: int = 0,
) -> Episodes:
    """Runs whole episodes together, with one policy call per step for all of them.

    The batch keeps its size to the end, so that a compiled policy is compiled once: an episode that is over
    stays in it as padding. Episode i starts from a seed made of `(seed, i)`, whatever the number of episodes.
    The environments are stepped by threads of this process: MuJoCo computes outside Python's lock, so processes would
    only add their copying. No result depends on the number of threads.

    Args:
      policy: `policy(observations [episodes, observation_dim] float32, key) -> actions [episodes, action_dim]`;
        the key is a function of `seed` and the step.
      task: a task's name, or a function that makes an environment with a step limit of its own.
      episodes: how many.
      seed: of starts and policy.
      backend: as in `envs.make`.
      workers: threads; 0: one per processor core that this process may use.

    Raises:
      UserError: no episodes are asked for, an unknown task, the policy's actions have the wrong shape or are not
        finite, or the environment is at fault (see `contract.reset` and `contract.step`).
    """
    if episodes < 1:
        raise UserError(f"An evaluation needs at least one episode, not {episodes}; set the number of episodes.")
    make = task if callable(task) else lambda: envs.make(task, backend)
    members = [make() for _ in range(episodes)]
    try:
        workers = min(episodes, workers or devices.processors())
        with ThreadPoolExecutor(workers) as pool:
            return _run(policy, members, seed, pool, workers)
    finally:
        for env in members:
            env.close()


def episode_seed(seed: int, episode: int) -> int:
    """The reset seed of one episode."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])


def _run(policy, members, seed, pool, workers):
    episodes = len(members)
    began = time.perf_counter()
    resets = [contract.reset(env, episode_seed(seed, i), i) for i, env in enumerate(members)]
    env_seconds, policy_seconds = time.perf_counter() - began, 0.0
    observations = np.array([observation for observation, _ in resets], np.float32)
    infos = [info for _, info in resets]
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    action_shape = (episodes, *members[0].action_space.shape)
    key = jax.random.key(seed)
    running = list(range(episodes))
    step = 0

    def advance(some):
        """Steps these episodes; returns those that go on."""
        left = []
        for i in some:
            observations[i], reward, *ends, infos[i] = contract.step(members[i], actions[i], step, i)
            returns[i] += reward
            lengths[i] += 1
            if not any(ends):
                left.append(i)
        return left

    while running:
        began = time.perf_counter()
        actions = np.asarray(policy(observations, _step_key(key, step)))
        called = time.perf_counter()
        _check_actions(actions, action_shape, running, step)
        pieces = min(4 * workers, len(running))  # more than workers: episodes in contact take longer
        shares = [running[k::pieces] for k in range(pieces)]
        running = sorted(i for left in pool.map(advance, shares) for i in left)
        step += 1
        policy_seconds += called - began
        env_seconds += time.perf_counter() - called
    return Episodes(returns, lengths, infos, policy_seconds, env_seconds)


def _check_actions(actions, shape, running, step):
    if actions.shape != shape:
        raise UserError(
            f"The policy returned actions of shape {list(actions.shape)} where the task needs {list(shape)}; "
            "it was made for another task."
        )
    finite = np.isfinite(actions[running]).all(axis=-1)
    if not finite.all():
        episode = running[int(np.argmin(finite))]
        raise Diverged(
            f"The policy's action is not finite at step {step} of episode {episode}; its parameters have diverged."
        )


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean of `values` `[n]`, from 10,000 resamples.

    Of one value, or of equal ones, it is that value twice.

    Raises:
      UserError: `values` is empty.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        raise UserError("An interval needs at least one value; evaluate at least one episode.")
    if values.min() == values.max():  # the bootstrap takes no single value, and rounds equal ones
        return float(values[0]), float(values[0])
    from scipy import stats  # most of a second, which a program that makes no interval need not spend

    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        batch=-(-1_000_000 // values.size),  # resamples drawn at once: 16 MB of values and their indices
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
