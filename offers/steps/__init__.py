"""What the pipelines' components call, file to file."""
