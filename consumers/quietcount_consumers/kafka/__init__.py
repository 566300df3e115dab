"""The log and the ledger on Kafka, and their topics."""
