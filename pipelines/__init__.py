"""The DAG, its settings and presets, and the `deepvideo` command line."""
