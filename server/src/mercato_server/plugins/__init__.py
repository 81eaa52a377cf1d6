"""Finding and loading plugins; the only room that imports pluggy."""
