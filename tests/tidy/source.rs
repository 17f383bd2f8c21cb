//! A Rust source as the tidy rules see it: its tokens without comments and literals, and every path that it names.
//!
//! This is no parser. It knows just enough of the language to tell code from text, tests from code, and where a
//! `use` tree, `self` or `super` leads.

use std::{fs, path::Path};

/// One file.
pub(crate) struct Source {
    /// From the crate's root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Where the file stands in the crate: `["room", "auth"]`; empty for `lib.rs` and for what is outside of `src`.
    pub(crate) module: Vec<String>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) paths: Vec<Named>,
}

pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// Inside an item under `#[cfg(test)]`.
    pub(crate) in_test: bool,
}

/// A path that the code names. Those of the crate start with `crate`, however they were written.
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// Every Rust source of the project, in order of path. What a `#[cfg(test)] mod name;` declares counts as test.
pub(crate) fn all(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["benches", "src", "tests"] {
        collect(root, &root.join(folder), &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() && !path.ends_with(".cache") {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("a path below the root").to_string_lossy().into_owned();
            sources.push(Source::parse(&name, &fs::read_to_string(&path).expect("a source in UTF-8")));
        }
    }
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut tokens = tokens(text);
        mark_tests(&mut tokens);
        let module = module(path);
        let paths = paths(&tokens, &module);
        Self { path: path.to_owned(), text: text.to_owned(), module, tokens, paths }
    }

    /// Whether the whole file is test code: by its place, or by its name (`tests.rs`, `fixture.rs`, and what lies in
    /// folders of these names).
    pub(crate) fn is_test(&self) -> bool {
        let is_test = |part: &String| part == "tests" || part == "fixture";
        !self.path.starts_with("src/") || self.module.iter().any(is_test)
    }
}

fn module(path: &str) -> Vec<String> {
    let Some(path) = path.strip_prefix("src/") else { return Vec::new() };
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let rest = &text[at..];
        let (length, is_code) = lex(rest);
        if is_code {
            found.push(Token { line, text: rest[..length].to_owned(), in_test: false });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

/// The length of what `rest` begins with, and whether it is code: a word, `::`, or one sign.
fn lex(rest: &str) -> (usize, bool) {
    let first = rest.chars().next().expect("something is left");
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let after = &rest[word..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (block_comment(rest), false)
    } else if matches!(&rest[..word], "r" | "br" | "cr") && after[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let body = word + hashes + 1;
        (rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len()), false)
    } else if matches!(&rest[..word], "" | "b" | "c") && after.starts_with('"') {
        (word + quoted(after, '"'), false)
    } else if matches!(&rest[..word], "" | "b") && is_char(after) {
        (word + quoted(after, '\''), false)
    } else if word > 0 {
        (word, true)
    } else if rest.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), !first.is_whitespace() && first != '\'')
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal that may hold escapes, quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Tells a character literal from a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars();
    let (quote, first, second) = (chars.next(), chars.next(), chars.next());
    quote == Some('\'') && (first == Some('\\') || second == Some('\''))
}

/// Marks each item that `#[cfg(test)]` precedes: up to its closing brace, or to its semicolon.
fn mark_tests(tokens: &mut [Token]) {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    for start in 0..tokens.len() {
        let begins =
            tokens[start..].iter().take(attribute.len()).map(|token| token.text.as_str()).eq(attribute);
        let mut depth = 0;
        for token in tokens[start..].iter_mut().take_while(|_| begins) {
            token.in_test = true;
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(token.text.as_str(), "}" | ";") {
                break;
            }
        }
    }
}

fn paths(tokens: &[Token], module: &[String]) -> Vec<Named> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let (mut found, mut at) = (Vec::new(), 0);
    let mut here = module.to_vec();
    // For each open brace, whether it opened a module.
    let mut braces = Vec::new();
    while at < tokens.len() {
        match text(at) {
            "{" => braces.push(at >= 2 && text(at - 2) == "mod"),
            "}" if braces.pop() == Some(true) => drop(here.pop()),
            "mod" if text(at + 2) == "{" => here.push(text(at + 1).to_owned()),
            "." => at += 1,
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                at = tree(tokens, at, Vec::new(), &here, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads the path or `use` tree at `at`, such as `super::a::{b, c::d as e}`; returns where it ends.
fn tree(
    tokens: &[Token],
    mut at: usize,
    mut path: Vec<String>,
    here: &[String],
    found: &mut Vec<Named>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = if text(at) == "," { at + 1 } else { tree(tokens, at, path.clone(), here, found) };
                }
                return at + 1;
            }
            word @ ("self" | "super") => {
                if path.is_empty() {
                    path = [&["crate".to_owned()], here].concat();
                }
                if word == "super" {
                    path.pop();
                }
            }
            word => path.push(word.to_owned()),
        }
        if text(at + 1) != "::" {
            if !path.is_empty() {
                found.push(Named { line: tokens[at.min(tokens.len() - 1)].line, segments: path });
            }
            return at + 1;
        }
        at += 2;
    }
}
