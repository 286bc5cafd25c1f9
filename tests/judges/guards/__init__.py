"""Tests of the guard judges."""
