"""Lets `python -m ktransformer` be the command."""

import sys

from ktransformer.cli import main

sys.exit(main())
