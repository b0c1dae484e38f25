"""Runs that are killed, damaged, or refused by the disk, at random: ``python -m tests.campaigns kill --runs 50``."""
