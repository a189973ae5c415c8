"""The groups of responses that a round trains on."""
