//! What a section of the configuration is: fields with documentation, a default or an example, and a type that knows
//! how to read itself. The macro [`section!`] makes all of it from one declaration.

use std::{fmt::Write, ops::Range};

use toml::de::DeTable;

use super::reader::Reader;

/// A table of the configuration.
pub(super) trait Section: Sized {
    const MANUAL: Manual;

    /// Reads every field of a table that stands at `span`; none if any can't be read, which the reader then knows.
    fn read_fields(table: &DeTable<'_>, span: Range<usize>, reader: &mut Reader<'_>) -> Option<Self>;

    /// The fields as TOML, secrets masked.
    fn print(&self) -> toml::Table;

    /// The fields that another one sets otherwise, `log.level` as one in a table is written.
    fn changed(&self, other: &Self) -> Vec<String>;
}

/// The doc comments of a section.
#[derive(Clone, Copy)]
pub(super) struct Manual {
    pub(super) docs: &'static [&'static str],
    pub(super) fields: &'static [Field],
}

/// What the manual tells of a field.
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) docs: &'static [&'static str],
    pub(super) shape: Shape,
    /// The value that holds if the field is not set; none if it must be set, or may be absent.
    pub(super) default: fn() -> Option<toml::Value>,
    pub(super) required: bool,
    /// A value that shows what is possible, in TOML, if there is one.
    pub(super) example: &'static [&'static str],
}

/// How a field stands in the file.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Value,
    /// A value that may also be the content of a file, named by the key with `_file` behind it.
    Secret,
    Table(Manual),
    Tables(Manual),
}

/// Declares a section: a struct whose fields may have a default, `= value`, and an example, `=> "TOML"`. A field without
/// a default must be set, unless it is a section itself.
macro_rules! section {
    ($(#[doc = $doc:literal])* pub struct $name:ident { $(
        $(#[doc = $field_doc:literal])*
        $field:ident: $type:ty $(= $default:expr)? $(=> $example:literal)?,
    )* }) => {
        $(#[doc = $doc])*
        #[derive(Clone)]
        pub struct $name { $($(#[doc = $field_doc])* pub $field: $type,)* }

        impl $crate::config::section::Section for $name {
            const MANUAL: $crate::config::section::Manual = $crate::config::section::Manual {
                docs: &[$($doc),*],
                fields: &[$($crate::config::section::Field {
                    key: stringify!($field),
                    docs: &[$($field_doc),*],
                    shape: <$type as $crate::config::value::Value>::SHAPE,
                    default: || {
                        let default = None::<$type> $(.or_else(|| Some($default)))?;
                        default.and_then(|value| $crate::config::value::Value::print(&value))
                    },
                    required: <[&str]>::is_empty(&[$(stringify!($default))?]),
                    example: &[$($example)?],
                }),*],
            };

            fn read_fields(
                table: &toml::de::DeTable<'_>,
                span: std::ops::Range<usize>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                $(let $field = reader.field(table, &span, stringify!($field), None $(.or_else(|| Some($default)))?);)*
                reader.refuse_unknown(table, &Self::MANUAL);
                Some(Self { $($field: $field?),* })
            }

            fn print(&self) -> toml::Table {
                let fields = [$((stringify!($field), $crate::config::value::Value::print(&self.$field))),*];
                fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
            }

            fn changed(&self, other: &Self) -> Vec<String> {
                let mut changed = Vec::new();
                $($crate::config::value::Value::changed(&self.$field, &other.$field, stringify!($field), &mut changed);)*
                changed
            }
        }
    };
}
pub(super) use section;

impl Manual {
    /// The section as a file to start from: comments, what must be set, and everything else behind a `#`.
    pub(super) fn to_toml(self) -> String {
        let mut text = String::new();
        comment(&mut text, self.docs);
        for field in self.fields {
            text.push('\n');
            match field.shape {
                Shape::Table(manual) => manual.write_table(&mut text, &format!("[{}]", field.key), ""),
                Shape::Tables(manual) => {
                    // Where there is none, the example of one holds nothing.
                    let is_none = (field.default)() == Some(toml::Value::Array(Vec::new()));
                    let mark = if is_none { "#" } else { "" };
                    manual.write_table(&mut text, &format!("{mark}[[{}]]", field.key), mark);
                }
                Shape::Value | Shape::Secret => field.write(&mut text, ""),
            }
        }
        text
    }

    fn write_table(self, text: &mut String, header: &str, mark: &str) {
        comment(text, self.docs);
        _ = writeln!(text, "{header}");
        for field in self.fields {
            field.write(text, mark);
        }
    }
}

impl Field {
    /// Behind `mark`, even if it must be set.
    fn write(&self, text: &mut String, mark: &str) {
        let default = (self.default)().map(|value| value.to_string());
        let value = self.example.first().map(|example| (*example).to_owned()).or(default).unwrap_or_default();
        let mark = if self.required { mark } else { "#" };
        comment(text, self.docs);
        _ = writeln!(text, "{mark}{} = {value}", self.key);
        if matches!(self.shape, Shape::Secret) {
            _ = writeln!(text, "#{0}_file = \"{0}\"", self.key);
        }
    }
}

fn comment(text: &mut String, docs: &[&str]) {
    for line in docs {
        _ = writeln!(text, "{}", format!("#{line}").trim_end());
    }
}
