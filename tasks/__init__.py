"""How one step touches the world: DVC stage commands, and Prefect tasks with side effects."""
