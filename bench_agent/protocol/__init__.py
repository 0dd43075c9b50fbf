"""What crosses the wire between labd, bench agents and lease holders. Imports nothing else of this project."""
