"""Haystack's objects on the way in and out."""
