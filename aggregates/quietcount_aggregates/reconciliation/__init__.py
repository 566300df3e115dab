"""Reconciliation: all released tables of a population, made to agree by least squares."""
