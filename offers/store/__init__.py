"""Objects, in a directory or an S3 bucket."""
