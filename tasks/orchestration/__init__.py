"""What talks to Prefect's API outside of a flow: deployments, the runner, and runs that a crash left behind."""
