-- What stands in the rooms of a store that has some was noted without its relations, or in another form.
INSERT INTO tasks (kind, subject, step) SELECT 'index-relations', 0, 0 FROM identity;
