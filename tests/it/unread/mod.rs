//! What is new to somebody: push rules, receipts, counts, over HTTP.

mod push_rules;
