-- Since when a server could not be reached: a time; NULL: it could be.
ALTER TABLE destinations ADD COLUMN failing_since INTEGER;
UPDATE destinations SET failing_since = next_try WHERE failures > 0;
