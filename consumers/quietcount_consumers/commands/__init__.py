"""The commands of the service's installation."""
