#!/bin/sh
# Makes the roles and databases of Prefect and MLflow. PostgreSQL's image runs it once, while its volume is empty.
# Passwords are read from the environment by psql itself, so that no list of processes shows them.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv prefect PREFECT_DATABASE_PASSWORD
\getenv mlflow MLFLOW_DATABASE_PASSWORD
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE prefect OWNER prefect;
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
-- MLflow's accounts have tables and migrations of their own.
CREATE DATABASE mlflow_accounts OWNER mlflow;
SQL
