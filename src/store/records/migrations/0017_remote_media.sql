-- The media of other servers, the oldest first.
CREATE INDEX media_of_others ON media (number) WHERE uploader IS NULL;
