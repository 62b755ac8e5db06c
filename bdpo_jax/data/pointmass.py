"""A point mass behind an obstacle: the dynamics of the task and its offline data, made in a moment.

The world is the box |x| <= 0.7, |y| <= 1. The point starts near (-0.5, 0), the goal is a half disc at the wall
around (0.7, 0), and a diamond stands on the straight line between them. An observation is the position, an
action a velocity command in the unit disc (a longer command is scaled down to length 1); one step moves the
point by `STEP * action`. Touching the obstacle or entering the goal ends the episode. At the start there are
two equally good actions, up and down, and their mean runs straight into the obstacle (the paper's Figure 1).
The diamond points at the start, and the start hardly varies: a policy that averages has no room left to fall to
one side. Nothing lies behind the goal, so that no value has to be guessed where the data never go.

All functions work on a whole batch of positions at once; `bdpo_jax.envs.pointmass` wraps them.
"""

import numpy as np

from bdpo_jax.errors import UserError

START = np.array([-0.5, 0.0])
START_NOISE = 0.01  # half-width of the uniform noise of the start, per axis
GOAL = np.array([0.7, 0.0])
GOAL_RADIUS = 0.2
WALLS = np.array([0.7, 1.0])  # |x|, |y| of the box
HALF_LENGTH, HALF_HEIGHT = 0.4, 0.6  # of the diamond |x| / HALF_LENGTH + |y| / HALF_HEIGHT <= 1
STEP = 0.1  # length of one step at full speed
MAX_EPISODE_STEPS = 50

STEP_REWARD = -0.2
GOAL_REWARD = 5.0
COLLISION_REWARD = -5.0


def start_positions(random: np.random.Generator, episodes: int) -> np.ndarray:
    """Starts drawn uniformly around `START`, `[episodes, 2]`."""
    return START + random.uniform(-START_NOISE, START_NOISE, (episodes, 2))


def advance(positions: np.ndarray, actions: np.ndarray) -> tuple:
    """One step of the dynamics.

    Args:
      positions: `[episodes, 2]`, in the box, outside the obstacle.
      actions: `[episodes, 2]`, velocity commands; those longer than 1 are scaled to length 1.

    Returns:
      `(next_positions [episodes, 2], rewards [episodes], success [episodes], collision [episodes])`, the
      last two boolean; either of them is a true terminal. A collision leaves the point on the obstacle's rim.
    """
    moves = STEP * actions / np.maximum(np.linalg.norm(actions, axis=-1, keepdims=True), 1.0)
    targets = np.clip(positions + moves, -WALLS, WALLS)
    collision, fraction = _meets_obstacle(positions, targets)
    success = _meets_goal(positions, targets) & ~collision
    rewards = STEP_REWARD + GOAL_REWARD * success + COLLISION_REWARD * collision
    return positions + fraction[:, None] * (targets - positions), rewards, success, collision


def _meets_goal(begin, end):
    """Whether each segment comes within the goal's radius."""
    move = end - begin
    along = np.sum((GOAL - begin) * move, axis=-1) / np.maximum(np.sum(move**2, axis=-1), 1e-12)
    nearest = begin + np.clip(along, 0.0, 1.0)[:, None] * move
    return np.linalg.norm(nearest - GOAL, axis=-1) <= GOAL_RADIUS


def _meets_obstacle(begin, end):
    """Whether each segment meets the diamond, and the fraction of it before that (1 where it does not)."""
    enter, leave = np.zeros(len(begin)), np.ones(len(begin))
    for normal in np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)]) / (HALF_LENGTH, HALF_HEIGHT):
        inside_by = 1.0 - begin @ normal
        speed = (end - begin) @ normal
        crossing = inside_by / np.where(speed == 0.0, 1e-12, speed)
        enter = np.where(speed < 0.0, np.maximum(enter, crossing), enter)
        leave = np.where(speed > 0.0, np.minimum(leave, crossing), leave)
        leave = np.where((speed == 0.0) & (inside_by < 0.0), -1.0, leave)
    hit = enter < leave
    return hit, np.where(hit, enter, 1.0)


def way_round(positions: np.ndarray, next_positions: np.ndarray) -> np.ndarray:
    """+1 where a step passes the obstacle's middle (x = 0) above it, -1 below, 0 where it does not pass."""
    passes = (positions[..., 0] < 0.0) & (next_positions[..., 0] >= 0.0)
    return np.where(passes, np.sign(positions[..., 1] + next_positions[..., 1]), 0.0).astype(int)


def shortest_path_return(starts: np.ndarray = START) -> np.ndarray:
    """The highest undiscounted return that any policy can reach from `starts` (`[..., 2]`), `[...]`.

    Starts lie left of the obstacle. The best way goes straight along the line to the nearer tip at full
    speed, for the fewest whole steps that reach the tip, then straight to the goal's rim: a longer first leg
    saves at most the step that it costs. Each step pays `STEP_REWARD`, the last one `GOAL_REWARD` as well.
    """
    starts = np.asarray(starts, dtype=np.float64)
    tips = np.stack([np.zeros(starts.shape[:-1]), np.where(starts[..., 1] < 0.0, -1, 1) * HALF_HEIGHT], -1)
    to_tip = np.linalg.norm(tips - starts, axis=-1, keepdims=True)
    first_leg = np.ceil(np.round(to_tip / STEP, 9))
    turning_point = starts + first_leg * STEP * (tips - starts) / to_tip
    second_leg = np.linalg.norm(GOAL - turning_point, axis=-1) - GOAL_RADIUS
    steps = first_leg[..., 0] + np.ceil(np.round(second_leg / STEP, 9))
    return STEP_REWARD * steps + GOAL_REWARD


def detour_headings(positions, sides, clearances, targets) -> np.ndarray:
    """Headings `[episodes]` (radians) round the obstacle, at `clearances` above its tip, then to `targets`.

    Args:
      positions: `[episodes, 2]`.
      sides: `[episodes]`, +1 to pass above the obstacle, -1 to pass below.
      clearances: `[episodes]`, how far above its tip to pass.
      targets: `[episodes, 2]`, where to go from there.
    """
    x, y = positions[:, 0], sides * positions[:, 1]
    before = x < 0.0
    to_x = np.where(before, 0.0, targets[:, 0]) - x
    to_y = np.where(before, HALF_HEIGHT + clearances, sides * targets[:, 1]) - y
    heading = np.arctan2(to_y, to_x)
    # Where a face of the diamond is close, or stands between the point and its target, turn away from it.
    distance_to_face = np.abs(x) / HALF_LENGTH + y / HALF_HEIGHT - 1.0
    heading += np.clip(8.0 * (0.08 - distance_to_face), 0.0, 1.2)
    return sides * heading


def generate(seed: int, episodes: int = 750) -> dict:
    """Offline data of noisy detours round both sides, most of them bad, a minority good.

    Each episode draws a side, a clearance, a speed and how much it wanders (a slowly varying error of its
    heading). One in seven is fast, close and steady; the others are wide, slow or wandering, half of them visit
    some other place before the goal, and some of them collide or run out of time.

    Args:
      seed: of everything that is drawn.
      episodes: number of episodes, of at most `MAX_EPISODE_STEPS` steps each.

    Returns:
      D4RL's arrays, episode after episode: `observations [rows, 2]`, `actions [rows, 2]`, `rewards [rows]`
      (float32), `terminals [rows]`, `timeouts [rows]` (bool).

    Raises:
      UserError: no episode is asked for.
    """
    if episodes < 1:
        raise UserError(f"The point mass was asked for {episodes} episodes (dataset_size); ask for at least 1.")
    random = np.random.default_rng(seed)
    style = _draw_style(random, episodes)
    positions = start_positions(random, episodes)
    drift = np.zeros(episodes)
    visited = style["direct"]
    running = np.ones(episodes, bool)
    rows = []
    for step in range(MAX_EPISODE_STEPS):
        drift = 0.85 * drift + style["wander"] * random.normal(size=episodes)
        visited = visited | (np.linalg.norm(positions - style["place"], axis=-1) < 2 * STEP)
        targets = np.where(visited[:, None], GOAL, style["place"])
        actions = _detour_actions(random, positions, style, drift, targets)
        next_positions, rewards, success, collision = advance(positions, actions)
        terminals = success | collision
        last = np.full(episodes, step == MAX_EPISODE_STEPS - 1)
        rows.append((running, positions, actions, rewards, terminals, last & ~terminals))
        running = running & ~terminals
        positions = next_positions
    return _episode_major(rows)


def _draw_style(random, episodes):
    """The traits of every episode, each `[episodes]`."""
    good = random.random(episodes) < 1 / 7

    def trait(good_range, other_range):
        low, high = np.where(good, *(np.array(r)[:, None] for r in (good_range, other_range)))
        return random.uniform(low, high)

    side = np.where(random.random(episodes) < 0.5, 1.0, -1.0)
    return {
        "side": side,
        "direct": good | (random.random(episodes) < 0.5),
        "place": np.stack([random.uniform(0.1, 0.7, episodes), side * random.uniform(0.0, 1.0, episodes)], -1),
        "clearance": trait((0.02, 0.10), (0.0, 0.35)),
        "speed": trait((0.8, 1.0), (0.4, 0.9)),
        "wander": trait((0.0, 0.06), (0.05, 0.3)),
    }


def _detour_actions(random, positions, style, drift, targets):
    """Velocity commands `[episodes, 2]` of the detours, in the unit disc."""
    heading = detour_headings(positions, style["side"], style["clearance"], targets) + drift
    actions = style["speed"][:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    actions = actions + 0.03 * random.normal(size=actions.shape)
    return actions / np.maximum(np.linalg.norm(actions, axis=-1, keepdims=True), 1.0)


def _episode_major(rows):
    """Stacks steps `[steps, episodes, ...]`, keeps those that were run, episode after episode."""
    running, observations, actions, rewards, terminals, timeouts = (
        np.stack(column).swapaxes(0, 1) for column in zip(*rows, strict=True)
    )
    return {
        "observations": observations[running].astype(np.float32),
        "actions": actions[running].astype(np.float32),
        "rewards": rewards[running].astype(np.float32),
        "terminals": terminals[running],
        "timeouts": timeouts[running],
    }
