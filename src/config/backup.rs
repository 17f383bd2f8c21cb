//! `[backup]`: how `tayberry backup` writes.

use toml::{Spanned, de::DeValue};

use super::{reader::Reader, section::section, value::Value};
use crate::base::age::Recipient;

section! {
    /// How `tayberry backup` writes.
    pub struct Backup {
        /// The public key, `age1...` as `age-keygen` prints it, to which backups are encrypted. This machine needs no more; the
        /// file that `age-keygen` wrote opens them, and `tayberry restore` asks for it. Without that file a backup is lost.
        recipient: Option<Recipient> = None => "\"\"",
    }
}

impl Value for Recipient {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| {
            text.parse().map_err(|error: <Self as std::str::FromStr>::Err| error.to_string())
        })
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.to_string().into())
    }
}
