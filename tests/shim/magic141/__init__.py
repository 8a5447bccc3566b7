"""Make the checkout importable as ``magic141`` outside ComfyUI, without running its root ``__init__``.

The checkout itself must stay off ``sys.path``: its ``nodes`` folder would hide ComfyUI's ``nodes.py``.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[3])]
