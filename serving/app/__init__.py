"""The pages: they ask the services and the library, and compute nothing of their own."""
