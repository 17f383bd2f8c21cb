-- Whose accounts and rooms these are: the name is part of every id, and accounts are kept without it.
ALTER TABLE identity ADD COLUMN server_name TEXT;
