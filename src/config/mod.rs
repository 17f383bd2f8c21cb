//! What an operator decides, one file a section.

mod registration;

pub use registration::{Registration, RegistrationMode};
