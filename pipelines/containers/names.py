"""The variables by which commands learn where the services are. Given beforehand, these are used and not started."""

STORE = "DEEPVIDEO_STORE"  # s3://bucket/prefix
TRACKING = "DEEPVIDEO_TRACKING_URI"  # MLflow's address
MLFLOW = "MLFLOW_TRACKING_URI"  # the same, for MLflow's own commands
