"""The pages: they ask the services and the library, and compute nothing of their own."""

MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "jemalloc", "MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""Environment of the process: what a look at a large log took is given back, where allocators would keep it."""
