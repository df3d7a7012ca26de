"""A folder that an agent works in: its files, a search through them, a shell, a list of tasks.

Read `workspace` for what there is, `root` for how files are kept to the folder, `guard` for how commands are ended.
"""

from .workspace import Workspace

__all__ = ["Workspace"]
