"""Says so when git wrote the links of this package as text files.

The rooms of the package (`mailbox`, `actors`, …) are folders at the top of the checkout; a symbolic link for each
lies here. Where git makes no symbolic links (`core.symlinks=false`) a clone holds a small text file in place of
each, what is built from it lacks the rooms, and the first import of a room would fail with a riddle. The front door
imports this module first. All links are made alike, so looking at one is enough, and costs one `stat`.
"""

import os.path
import sys

MESSAGE = (
    "greenroom: this clone holds text files where links should be, because git's core.symlinks is off; "
    "in the clone run: git config core.symlinks true && git checkout -- src/greenroom"
)

_here = os.path.dirname(__file__)
# The second question keeps an import from a zip file, where there is no folder at all, out of this.
if not os.path.isdir(os.path.join(_here, "mailbox")) and os.path.isdir(_here):
    if os.path.splitext(os.path.basename(sys.argv[0]))[0] == "greenroom":
        raise SystemExit(MESSAGE)  # the command: one line and no traceback
    raise ImportError(MESSAGE)
