-- Long work in small idempotent steps. A task that is wanted again starts over.
CREATE TABLE tasks (
    kind    TEXT    NOT NULL,
    subject INTEGER NOT NULL,                  -- what it is about; the kind says which number that is
    step    INTEGER NOT NULL,                  -- how far it is; the kind says what that counts
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
