"""The variables by which commands learn where the services are. Given beforehand, these are used and not started."""

STORE = "DEEPVIDEO_STORE"  # s3://bucket/prefix
TRACKING = "MLFLOW_TRACKING_URI"
