//! Texts as the index has them, and what people look for.
//!
//! Both are folded as names are in the directories, so that neither case nor accents tell them apart. What stands together
//! without a space in between, as in an address or in Chinese, is found by any part of it that is whole words or signs.

use crate::base::{
    fold::{cut, words},
    limits,
};

/// What somebody looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// What they typed between two spaces, as words that follow each other.
    pub phrases: Vec<String>,
    /// Whether the last word of these may be the beginning of one.
    pub is_open: bool,
    /// How many words these are.
    pub words: usize,
    /// The same as they typed it.
    pub typed: Vec<String>,
}

impl Term {
    pub fn of(text: &str) -> Self {
        let mut term = Self::default();
        for typed in cut(text, limits::SOUGHT_BYTES).split_whitespace() {
            let mut words = signs(typed);
            words.truncate(limits::SOUGHT_WORDS - term.words);
            let Some(last) = words.last() else { continue };
            term.words += words.len();
            term.is_open = last.chars().count() >= limits::SOUGHT_PREFIX;
            term.phrases.push(words.join(" "));
            term.typed.push(typed.to_owned());
        }
        term
    }
}

/// A text as it is indexed.
pub(super) fn indexed(text: &str) -> String {
    let mut indexed = String::new();
    for word in signs(cut(text, limits::SEARCHED_TEXT_BYTES)) {
        if indexed.len() + word.len() >= limits::SEARCHED_TEXT_BYTES {
            break;
        }
        if !indexed.is_empty() {
            indexed.push(' ');
        }
        indexed.push_str(&word);
    }
    indexed
}

/// The words of a text; of scripts that put no spaces between words, the signs.
fn signs(text: &str) -> Vec<String> {
    let mut signs = Vec::new();
    for word in words(text) {
        match word.contains(is_sign) {
            false => signs.push(word),
            true => signs.extend(word.chars().map(String::from)),
        }
    }
    signs
}

/// Kana, Thai, Lao, Tibetan, Burmese, Khmer. Ideographs are words already.
fn is_sign(c: char) -> bool {
    matches!(c, '\u{E00}'..='\u{FFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_phrases() {
        for (text, phrases, is_open, words) in [
            ("Martians and MEN", &["martians", "and", "men"][..], true, 3),
            ("", &[], false, 0),
            (" \t\n ", &[], false, 0),
            ("!!! \"' *", &[], false, 0),
            ("Crème brûlée", &["creme", "brulee"], true, 2),
            ("see you at", &["see", "you", "at"], false, 3),
            ("don't", &["don t"], false, 2),
            ("https://example.org/tea?a=1", &["https example org tea a 1"], false, 6),
            ("\"red\" OR tea*", &["red", "or", "tea"], true, 3),
            ("NEAR(a b)", &["near a", "b"], false, 3),
            ("日本語 テスト", &["日 本 語", "テ ス ト"], false, 6),
            ("ไทย", &["ไ ท ย"], false, 3),
            ("tea 🍵", &["tea", "🍵"], false, 2),
            ("a\0b", &["a b"], false, 2),
        ] {
            let term = Term::of(text);
            assert_eq!(
                (&term.phrases[..], term.is_open, term.words),
                (&phrases.iter().map(|words| (*words).to_owned()).collect::<Vec<_>>()[..], is_open, words),
                "{text}"
            );
            assert_eq!(term.typed.len(), term.phrases.len());
        }
        assert_eq!(Term::of("Crème  !! brûlée").typed, ["Crème", "brûlée"]);
    }

    #[test]
    fn a_term_has_bounds() {
        let term = Term::of(&"x ".repeat(10_000));
        assert_eq!((term.phrases.len(), term.words), (limits::SOUGHT_WORDS, limits::SOUGHT_WORDS));
        let one = Term::of(&"山".repeat(10_000));
        assert_eq!((one.phrases.len(), one.words), (1, limits::SOUGHT_WORDS));
        let long = Term::of(&"x".repeat(100_000));
        assert_eq!(long.phrases, ["x".repeat(limits::WORD_BYTES)]);
        let text = indexed(&"tea ".repeat(100_000));
        assert!(text.len() <= limits::SEARCHED_TEXT_BYTES && text.ends_with("tea"));
        assert!(indexed(&"\u{FDFA}".repeat(20_000)).len() <= limits::SEARCHED_TEXT_BYTES);
    }

    #[test]
    fn what_is_typed_is_found_in_what_was_written() {
        for (written, typed) in [
            ("Crème brûlée!", "BRULEE"),
            ("see https://example.org/tea", "example.org"),
            ("東京都に行く", "京都"),
            ("これはテストです", "テスト"),
        ] {
            let phrase = &Term::of(typed).phrases[0];
            assert!(format!(" {} ", indexed(written)).contains(&format!(" {phrase} ")), "{written}");
        }
    }
}
