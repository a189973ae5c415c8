"""Makes a trained policy the champion, if it is better beyond doubt."""
