"""The commands that training adds to `mercato`."""
