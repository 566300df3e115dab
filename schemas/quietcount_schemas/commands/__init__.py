"""The commands that the contract itself brings, and the table from which `quietcount --help` lists them."""
