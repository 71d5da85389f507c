"""Wire formats: pure translators, without async, clock, randomness, logging or requests."""
