"""How hard each sample of a round is for the policy."""
