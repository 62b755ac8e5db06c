"""What a config may hold: values that make sense together, and keys in which a resumed run may differ."""

from bdpo_jax.types import UserError

# Budgets and intervals; everything else defines the run.
MAY_CHANGE = (
    "pretrain_steps",
    "train_steps",
    "evaluate_every",
    "eval_episodes",
    "final_episodes",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "compilation_cache",
    "devices",
    "members_at_once",
    "dataset_path",
    "dataset_memory",
    "mirrors",
    "wandb",
)

_POSITIVE = (
    "actor_samples",
    "actor_update_interval",
    "greedy_candidates",
    "diffusion_steps",
    "ensemble_size",
    "batch_size",
    "clip_norm",
    "evaluate_every",
    "eval_episodes",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
)
_NOT_NEGATIVE = (
    "eta",
    "rho",
    "behavior_lr",
    "actor_lr",
    "value_lr",
    "pretrain_steps",
    "train_steps",
    "value_warmup_steps",
    "final_episodes",
    "members_at_once",
    "seed",
    "devices",
    "value_decay_steps",
)


def check_config(config) -> None:
    """Raises a `UserError` that names the first key whose value makes no sense."""
    for name in _POSITIVE:
        _require(config[name] > 0, name, config[name], "a positive number")
    for name in _NOT_NEGATIVE:
        _require(config[name] >= 0, name, config[name], "zero or more")
    for name in ("discount", "ema_rate"):
        _require(0 <= config[name] <= 1, name, config[name], "between 0 and 1")
    horizon = config.actor_decay_steps
    _require(horizon >= -1, "actor_decay_steps", horizon, "a number of actor updates, 0 or -1")
    known = ("lcb", "min", "mean")
    _require(config.aggregation in known, "aggregation", config.aggregation, f"one of {', '.join(known)}")
    types = ("float32", "bfloat16")
    _require(config.dtype in types, "dtype", config.dtype, f"one of {', '.join(types)}")
    places = ("auto", "device", "host")
    _require(config.dataset_memory in places, "dataset_memory", config.dataset_memory, f"one of {', '.join(places)}")
    for name in ("actor_widths", "value_widths"):
        _require(len(config[name]) > 0 and min(config[name]) > 0, name, config[name], "a tuple of positive widths")
    seeds = tuple(config.seeds)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    _require(
        whole and len(set(seeds)) == len(seeds), "seeds", seeds, "a tuple of different whole numbers, none below 0"
    )
    for name, values in config.sweep.items():
        numbers = all(isinstance(value, int | float) and value >= 0 for value in values)
        _require(numbers and len(set(values)) == len(values), f"sweep.{name}", values, "a tuple of different numbers")
    if config.stratified:
        enough = config.batch_size >= config.diffusion_steps
        wanted = f"at least diffusion_steps ({config.diffusion_steps}) unless stratified=False"
        _require(enough, "batch_size", config.batch_size, wanted)


def _require(holds: bool, name: str, value, wanted: str) -> None:
    if not holds:
        raise UserError(f"config.{name} is {value!r}; it must be {wanted}.")
