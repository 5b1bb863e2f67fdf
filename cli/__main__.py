"""`python -m cli`: the command, for programs that start it as a process of their own."""

from cli.main import main

if __name__ == "__main__":
    main()
