"""What a team runs, as real servers on loopback: PostgreSQL, an S3 store, and MLflow and Prefect on them."""
