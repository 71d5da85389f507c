"""Other projects' names over ours."""
