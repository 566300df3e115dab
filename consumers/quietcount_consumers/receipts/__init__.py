"""The receipt: what a ledger says of the guarantee, in the form of a public registry of deployments."""
