"""A run in containers on this machine, and the services that it needs: S3, MLflow on PostgreSQL."""
