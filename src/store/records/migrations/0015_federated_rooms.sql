-- Rooms that are of their server alone are kept from others' eyes.
ALTER TABLE listed_rooms ADD COLUMN federated INTEGER NOT NULL DEFAULT 1;

-- Which of those that are there are so is found out step by step.
INSERT INTO tasks SELECT 'list-rooms', 0, 0 WHERE EXISTS (SELECT 1 FROM listed_rooms)
ON CONFLICT DO UPDATE SET step = 0;
