"""A model's life: discover, export, load, warm, serve, drain, unload."""
