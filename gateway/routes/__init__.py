"""HTTP in, HTTP out: parse, invoke, encode, and nothing else."""
