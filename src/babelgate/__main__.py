"""``python -m babelgate``."""

from .cli import main

main()
