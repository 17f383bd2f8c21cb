//! The types that fields of the configuration have: how each reads itself and prints itself as TOML.

use std::path::PathBuf;

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use toml::{Spanned, de::DeValue};

use super::{
    reader::Reader,
    section::{Section, Shape},
};
use crate::base::secret::Secret;

/// What a field can hold.
pub(super) trait Value: Sized {
    const SHAPE: Shape = Shape::Value;

    /// Reads the value; none is a problem that the reader remembers.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self>;

    /// The value as TOML, masked if it is a secret; none if there is nothing to print.
    fn print(&self) -> Option<toml::Value>;

    /// Adds the name of the field to those whose values differ, if they do. What isn't printed must see to it itself.
    fn changed(&self, other: &Self, name: &str, changed: &mut Vec<String>) {
        if self.print() != other.print() {
            changed.push(name.to_owned());
        }
    }
}

impl<T: Section> Value for T {
    const SHAPE: Shape = Shape::Table(T::MANUAL);

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            reader.refuse_value(value, "must be a table");
            return None;
        };
        T::read_fields(table, value.span(), reader)
    }

    fn print(&self) -> Option<toml::Value> {
        Some(Section::print(self).into())
    }

    fn changed(&self, other: &Self, name: &str, changed: &mut Vec<String>) {
        changed.extend(Section::changed(self, other).iter().map(|field| format!("{name}.{field}")));
    }
}

impl<T: Value> Value for Vec<T> {
    const SHAPE: Shape = match T::SHAPE {
        Shape::Table(manual) => Shape::Tables(manual),
        _ => Shape::Value,
    };

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(values) = value.get_ref().as_array() else {
            reader.refuse_value(value, "must be a list");
            return None;
        };
        reader.elements(values)
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.iter().filter_map(Value::print).collect::<toml::value::Array>().into())
    }

    fn changed(&self, other: &Self, name: &str, changed: &mut Vec<String>) {
        let mut within = Vec::new();
        self.iter().zip(other).for_each(|(one, other)| one.changed(other, name, &mut within));
        if self.len() != other.len() || !within.is_empty() {
            changed.push(name.to_owned());
        }
    }
}

/// The empty string is none, so that the environment can take back what the file sets.
impl<T: Value> Value for Option<T> {
    const SHAPE: Shape = match T::SHAPE {
        // Inside of one line, because its header alone would set it.
        Shape::Table(_) => Shape::Value,
        shape => shape,
    };

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        if value.get_ref().as_str() == Some("") { Some(None) } else { T::read(value, reader).map(Some) }
    }

    fn print(&self) -> Option<toml::Value> {
        self.as_ref()?.print()
    }

    fn changed(&self, other: &Self, name: &str, changed: &mut Vec<String>) {
        match (self, other) {
            (Some(one), Some(other)) => one.changed(other, name, changed),
            (None, None) => {}
            _ => changed.push(name.to_owned()),
        }
    }
}

impl Value for bool {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let read = value.get_ref().as_bool();
        if read.is_none() {
            reader.refuse_value(value, "must be true or false");
        }
        read
    }

    fn print(&self) -> Option<toml::Value> {
        Some((*self).into())
    }
}

impl Value for String {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| Ok(text.to_owned()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.as_str().into())
    }
}

impl Value for u64 {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let integer = value.get_ref().as_integer();
        let read = integer.and_then(|integer| Self::from_str_radix(integer.as_str(), integer.radix()).ok());
        if read.is_none() {
            reader.refuse_value(value, "must be a number that is not negative");
        }
        read
    }

    fn print(&self) -> Option<toml::Value> {
        i64::try_from(*self).ok().map(toml::Value::from)
    }
}

impl Value for Secret<String> {
    const SHAPE: Shape = Shape::Secret;

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |text| Ok(Self::new(text.to_owned())))
    }

    fn print(&self) -> Option<toml::Value> {
        Some("(hidden)".into())
    }

    fn changed(&self, other: &Self, name: &str, changed: &mut Vec<String>) {
        if self != other {
            changed.push(name.to_owned());
        }
    }
}

impl Value for PathBuf {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let folder = reader.folder();
        reader.text(value, |path| match path {
            "" => Err("must be a path".into()),
            path => Ok(folder.join(path)),
        })
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.display().to_string().into())
    }
}

impl Value for OwnedServerName {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let problem = "must be a host name or an IP address, with a port if need be";
        reader.text(value, |name| ServerName::parse(name).map_err(|_| problem.into()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.as_str().into())
    }
}

impl Value for OwnedUserId {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(value, |id| UserId::parse(id).map_err(|_| "must be a user id, `@name:server`".into()))
    }

    fn print(&self) -> Option<toml::Value> {
        Some(self.as_str().into())
    }
}

/// Implements [`Value`] for an enumeration, each variant of which has a name.
macro_rules! choice {
    ($type:ident: $($variant:ident = $name:literal),*) => {
        impl $crate::config::value::Value for $type {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                reader.text(value, |name| match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(format!("must be one of {}", [$($name),*].join(", "))),
                })
            }

            fn print(&self) -> Option<toml::Value> {
                Some(match self { $(Self::$variant => $name),* }.into())
            }
        }
    };
}
pub(super) use choice;
