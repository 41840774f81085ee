#!/bin/sh
# The roles of docs/operations.md and the database. PostgreSQL's image runs this once, when its volume is empty.
set -eu
psql --set ON_ERROR_STOP=1 --set owner="$OWNER_PASSWORD" --set web="$WEB_PASSWORD" <<'SQL'
CREATE ROLE characters_owner LOGIN PASSWORD :'owner';
CREATE ROLE characters_web LOGIN PASSWORD :'web';
CREATE DATABASE characters OWNER characters_owner;
REVOKE ALL ON DATABASE characters FROM PUBLIC;
GRANT CONNECT ON DATABASE characters TO characters_web;
GRANT pg_read_all_stats TO characters_web;
\connect characters
SET ROLE characters_owner;
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO characters_web;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO characters_web;
SQL
