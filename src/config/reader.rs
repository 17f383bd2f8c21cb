//! Reads fields from a file and the environment, and remembers every problem with its place.

use std::{
    collections::BTreeMap,
    fs, mem,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigErrors,
    section::{Manual, Section, Shape},
    value::Value,
};
use crate::base::ordered::Ordered;

/// The variables that have a say in the configuration.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    pub(super) fn of_process() -> Self {
        std::env::vars_os()
            .map(|(name, text)| (name.to_string_lossy().into_owned(), text.to_string_lossy().into_owned()))
            .collect()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        let relevant = |name: &str| name == CREDENTIALS || name.starts_with(ROOT);
        Self(variables.into_iter().filter(|(name, _)| relevant(name)).into_map())
    }
}

/// A configuration file and what overrides it.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) environment: &'a Environment,
    /// Otherwise the files in which secrets lie are left alone, and each is a text of no meaning.
    pub(super) reads_secrets: bool,
}

impl Source<'_> {
    pub(super) fn parse(&self) -> Result<Config, ConfigErrors> {
        let mut reader = Reader {
            source: self,
            scope: Some(ROOT.into()),
            key: String::new(),
            variable: None,
            problems: Vec::new(),
        };
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            reader.refuse(error.span().unwrap_or_default(), error.message());
        }
        // What is left of a file after a mistake in its form would only give more mistakes.
        let config =
            if errors.is_empty() { Config::read_fields(table.get_ref(), 0..0, &mut reader) } else { None };
        let mut problems = reader.problems;
        if let Some(conflict) = config.as_ref().and_then(Config::conflict) {
            problems.push((usize::MAX, format!("{}: {conflict}", self.path.display())));
        }
        problems.sort_by_key(|(start, _)| *start);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(problems.into_iter().map(|(_, problem)| problem))),
        }
    }
}

/// Reads one configuration.
pub(super) struct Reader<'a> {
    source: &'a Source<'a>,
    /// The variable that overrides the table that is being read; none inside of a list.
    scope: Option<String>,
    /// The key of the value that is being read.
    key: String,
    /// The variable that is being read instead of the file.
    variable: Option<String>,
    /// Each with the byte of the file that it is about.
    problems: Vec<(usize, String)>,
}

/// Where a value is found.
enum Origin<'v> {
    Variable(String, &'v str),
    File(&'v Spanned<DeValue<'v>>),
}

impl Reader<'_> {
    /// Reads a field of a table, which stands at `span`: from the environment, from the table, or the default. None is a
    /// problem that was remembered.
    pub(super) fn field<T: Value>(
        &mut self,
        table: &DeTable<'_>,
        span: &Range<usize>,
        key: &str,
        default: Option<T>,
    ) -> Option<T> {
        let source = self.source;
        let keys = keys(key, T::SHAPE);
        let scope = self.scope.clone();
        let variable = |key: &String| {
            let (name, text) = source.environment.0.get_key_value(&variable(scope.as_ref()?, key))?;
            Some((key.clone(), Origin::Variable(name.clone(), text)))
        };
        let mut found: Vec<_> = keys.iter().filter_map(variable).collect();
        if found.is_empty() {
            let entry = |key: &String| Some((key.clone(), Origin::File(table.get(key.as_str())?)));
            found = keys.iter().filter_map(entry).collect();
        }
        match (found.pop(), found.is_empty()) {
            (Some((key, origin)), true) => self.read(key, &origin),
            (Some(_), false) => {
                self.refuse(span.clone(), &format!("only one of {} can be set", keys.join(" and ")));
                None
            }
            (None, _) if matches!(T::SHAPE, Shape::Table(_)) => {
                let empty = Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
                self.read(key.to_owned(), &Origin::File(&empty))
            }
            (None, _) => {
                if default.is_none() {
                    self.refuse(span.clone(), &format!("`{key}` is missing"));
                }
                default
            }
        }
    }

    /// Reads the elements of a list, whose fields no variables override.
    pub(super) fn elements<T: Value>(&mut self, values: &[Spanned<DeValue<'_>>]) -> Option<Vec<T>> {
        let scope = self.scope.take();
        let read: Vec<_> = values.iter().map(|value| T::read(value, self)).collect();
        self.scope = scope;
        read.into_iter().collect()
    }

    /// Reads a string.
    pub(super) fn text<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = value.get_ref().as_str().map_or_else(|| Err("must be a string".to_owned()), parse);
        parsed.map_err(|problem| self.refuse_value(value, &problem)).ok()
    }

    /// Where relative paths begin: the folder of the file.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = Path::new(".").join(self.source.path.parent().unwrap_or(Path::new("")));
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// Remembers what is wrong with the value that is being read, as what follows its key in a sentence.
    pub(super) fn refuse_value(&mut self, value: &Spanned<DeValue<'_>>, problem: &str) {
        self.refuse(value.span(), &format!("`{}` {problem}", self.key));
    }

    /// Refuses keys of a table, and variables for it, of which its section knows nothing.
    pub(super) fn refuse_unknown(&mut self, table: &DeTable<'_>, manual: &Manual) {
        let known: Vec<_> = manual.fields.iter().flat_map(|field| keys(field.key, field.shape)).collect();
        let there_are = format!("known here: {}", known.join(", "));
        for key in table.keys().filter(|key| !known.iter().any(|known| known == key.get_ref())) {
            self.refuse(key.span(), &format!("unknown key `{}`; {there_are}", key.get_ref()));
        }
        // Among variables that begin like the topmost keys' may be other programs'.
        let Some(scope) = self.scope.as_ref().filter(|scope| *scope != ROOT) else { return };
        let known: Vec<_> = known.iter().map(|key| variable(scope, key)).collect();
        let within = variable(scope, "");
        for name in self.source.environment.0.keys().filter(|name| name.starts_with(&within)) {
            if !known.contains(name) {
                self.problems.push((0, format!("{name}: unknown variable; {there_are}")));
            }
        }
    }

    fn read<T: Value>(&mut self, key: String, origin: &Origin<'_>) -> Option<T> {
        let inner = self.scope.as_ref().map(|scope| variable(scope, &key));
        let in_file = matches!(T::SHAPE, Shape::Secret) && key.ends_with(FILE);
        let read: Read<T> = if in_file { read_file } else { T::read };
        let (outer, outer_key) = (mem::replace(&mut self.scope, inner), mem::replace(&mut self.key, key));
        let value = match origin {
            Origin::File(value) => read(value, self),
            Origin::Variable(name, text) => self.read_variable(name, text, read),
        };
        (self.scope, self.key) = (outer, outer_key);
        value
    }

    /// Reads a variable: as a string, or else as TOML.
    fn read_variable<T>(&mut self, name: &str, text: &str, read: Read<T>) -> Option<T> {
        let outer = self.variable.replace(name.to_owned());
        let problems = self.problems.len();
        let mut value = read(&string(text, 0..0), self);
        if value.is_none()
            && let Ok(toml) = DeValue::parse(text)
        {
            self.problems.truncate(problems);
            value = read(&toml, self);
        }
        self.variable = outer;
        value
    }

    /// Remembers a problem with a part of the file, or with the variable that is being read.
    fn refuse(&mut self, span: Range<usize>, problem: &str) {
        let (start, place) = match &self.variable {
            Some(variable) => (0, variable.clone()),
            None => {
                let before = self.source.text.bytes().take(span.start);
                let line = 1 + before.filter(|byte| *byte == b'\n').count();
                (span.start, format!("{}:{line}", self.source.path.display()))
            }
        };
        self.problems.push((start, format!("{place}: {problem}")));
    }
}

type Read<T> = fn(&Spanned<DeValue<'_>>, &mut Reader<'_>) -> Option<T>;

/// Reads a value from the file that is named, without the white space at its end. A relative path is looked for among
/// the credentials from systemd first.
fn read_file<T: Value>(path: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<T> {
    let name = reader.text(path, |path| Ok(path.to_owned()))?;
    if !reader.source.reads_secrets {
        return T::read(&string("-", path.span()), reader);
    }
    let credential = reader.source.environment.0.get(CREDENTIALS).map(|folder| Path::new(folder).join(&name));
    let file = credential.filter(|file| file.exists()).unwrap_or_else(|| reader.folder().join(&name));
    let problem = match fs::read_to_string(&file) {
        Ok(text) if text.trim_end().is_empty() => format!("names {}, which is empty", file.display()),
        Ok(text) => return T::read(&string(text.trim_end(), path.span()), reader),
        Err(error) => format!("can't be read from {}: {error}", file.display()),
    };
    reader.refuse_value(path, &problem);
    None
}

/// The keys that set a field.
fn keys(key: &str, shape: Shape) -> Vec<String> {
    let file = matches!(shape, Shape::Secret).then(|| format!("{key}{FILE}"));
    std::iter::once(key.to_owned()).chain(file).collect()
}

/// The variable for a key of the table that `scope` is for.
fn variable(scope: &str, key: &str) -> String {
    format!("{scope}_{}", key.to_ascii_uppercase())
}

fn string(text: &str, span: Range<usize>) -> Spanned<DeValue<'_>> {
    Spanned::new(span, DeValue::String(text.into()))
}

/// The scope of the topmost keys.
const ROOT: &str = "TAYBERRY";
/// What a key has behind it if it names a file.
const FILE: &str = "_file";
/// <https://systemd.io/CREDENTIALS/>
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
