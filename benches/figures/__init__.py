"""Modules of benches/run."""
