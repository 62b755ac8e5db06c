"""The toy algorithm is known by name while the trainer is tested."""

import pytest
import toy

from bdpo_jax.agents import AGENTS


@pytest.fixture(autouse=True, scope="package")
def _toy_is_known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGENTS, "toy", toy)
        yield
