//! What an operator decides, one file a section.

mod registration;
mod signing_key;

pub use self::{
    registration::{Registration, RegistrationMode},
    signing_key::{SigningKey, SigningKeyError},
};
