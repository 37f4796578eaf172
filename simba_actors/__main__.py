"""`python -m simba_actors`: the same as the command `simba-actors`."""

from simba_actors.cli import main

if __name__ == "__main__":
    main()
