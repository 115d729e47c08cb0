"""One poll for all waits of a connection in a triggerer: its policy, and the poller that follows it."""
