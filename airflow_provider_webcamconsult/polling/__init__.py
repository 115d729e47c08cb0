"""Polls appointments for all waits of a connection in a triggerer: the rules, and the poller."""
