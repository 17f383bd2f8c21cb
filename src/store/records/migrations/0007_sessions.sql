-- What an account's owner accepted, and from where its devices come.

ALTER TABLE users ADD COLUMN accepted_terms TEXT;   -- version of the terms; NULL: none were shown
ALTER TABLE devices ADD COLUMN last_seen_ip TEXT;   -- NULL: not seen since it logged in
