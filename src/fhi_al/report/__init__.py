"""What a run tells its user: logs, tables, exports and the summary."""
