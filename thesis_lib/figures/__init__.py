"""The thesis's figures, tables and the report page; every function returns what it draws and writes nothing itself."""
