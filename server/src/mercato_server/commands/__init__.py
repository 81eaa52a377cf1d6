"""The server's subcommands of `mercato`, one file each."""
