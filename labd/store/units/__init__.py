"""What a transaction may ask of the database, by noun."""
