"""What two or more steps need, and nothing else. It imports no step."""
