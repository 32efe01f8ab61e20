"""`python -m exitramp`."""

from exitramp.cli.main import main

main()
