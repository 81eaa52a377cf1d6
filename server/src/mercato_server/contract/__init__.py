"""Plain types that rooms share."""
