-- Members of the rooms of a store that has some were not noted under their servers.
INSERT INTO tasks (kind, subject, step) SELECT 'index-servers', 0, 0 FROM identity;
