"""`python -m mercato_client.cli` is `mercato`."""

from mercato_client.cli import main

if __name__ == "__main__":
    main()
