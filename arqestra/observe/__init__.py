"""What is told of the queue: traces, logs in JSON."""
