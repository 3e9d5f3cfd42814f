"""What ingest is pointed at: folders, files and archives, on a disk or in an object store."""
