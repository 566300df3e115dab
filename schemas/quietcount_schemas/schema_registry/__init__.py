"""Confluent's Schema Registry: settings, client, pinned ids, registration."""
