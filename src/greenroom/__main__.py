"""The command as a module: ``python -P -m greenroom demo``.

``-P`` keeps the working directory off the import path; in a checkout of this project its folder `mailbox` would
otherwise hide the standard library's module.
"""

from .cli import main

if __name__ == "__main__":
    main()
