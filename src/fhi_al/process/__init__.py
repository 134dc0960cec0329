"""What belongs to the process: stop requests, memory."""
