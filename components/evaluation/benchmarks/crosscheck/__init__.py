"""lmms-eval's scorers on the same responses, in an environment of their own; every difference is foretold by a rule or told."""
