"""What the config files share: the defaults of `bdpo_jax/defaults.py`, and the reading of their argument."""

from bdpo_jax.data.dataset import unknown_name
from bdpo_jax.defaults import get_config

__all__ = ["get_config", "nearest", "task_and_variant"]


def task_and_variant(arg: str | None, default: str, variants: tuple[str, ...]) -> tuple[str, str]:
    """Returns (task, variant) from "TASK", "TASK,VARIANT" or ""; the first of `variants` is the default one."""
    task, _, variant = (arg or default).partition(",")
    task = task or default
    variant = variant or variants[0]
    return task, nearest("variant", variant, variants)


def nearest(kind: str, name: str, known) -> str:
    """Returns `name` if it is known, else raises a `UserError` that names the nearest known one."""
    if name not in known:
        raise unknown_name(kind, name, known)
    return name
