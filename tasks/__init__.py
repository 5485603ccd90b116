"""The steps with side effects: DVC stage commands, and Prefect tasks."""
