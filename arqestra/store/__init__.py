"""The only place that speaks to Redis: one method and one Lua script for each transition of a job."""
