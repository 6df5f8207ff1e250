"""The observer: the process that turns facts into signals, health and the last known state."""
