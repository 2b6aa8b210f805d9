"""Fine-tuning on a few objects, in a process of its own: what the dock and the commands run.

`sources` says what there is to learn from, `settings` how, `preflight` whether it can work, `run`
starts and watches it, `runs` finds what was made. None of them imports torch: the child does.
"""

from __future__ import annotations

import importlib.util


def missing_packages() -> list[str]:
    """Name what training needs and this installation lacks; empty where all is there."""
    needed = {"lightning_fabric": "lightning-fabric", "pydantic": "pydantic"}
    return [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
