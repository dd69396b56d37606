"""`python -m attunement` is `attune`: for where the script is not on the path."""

from attunement.cli.main import main

if __name__ == "__main__":
    main()
