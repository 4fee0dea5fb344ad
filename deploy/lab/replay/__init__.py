"""Replays recorded requests against a pool and compares the answers with the recorded ones.

`python -m deploy.lab.replay DIRECTORY` plays every recording of a directory, each on a fresh lab.
"""
