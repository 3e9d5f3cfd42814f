"""What is seen of a study while it runs and after: its trials as a table and in three pictures."""
