"""What each step read and wrote, told to a data catalogue as OpenLineage events."""
