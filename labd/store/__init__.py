"""What labd remembers: tables, transactions, migrations."""
