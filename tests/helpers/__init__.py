"""What several tests use; tests/ is on the path, no test imports a test."""
