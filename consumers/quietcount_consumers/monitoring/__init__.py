"""What operators see of the service: status, metrics, health, log lines."""
