//! Text as people type it when they look for something: without case, accents, width or decoration.
//!
//! What is looked through and what is looked for are folded alike, so only that has to be right, not how it reads.

use icu_normalizer::{DecomposingNormalizerBorrowed, properties::CanonicalCombiningClassMapBorrowed};

use super::limits;

/// A text in its folded form; any white space in it is one space.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let marks = CanonicalCombiningClassMapBorrowed::new();
    let letters = DecomposingNormalizerBorrowed::new_nfkd().normalize(text);
    for c in letters.chars().filter(|&c| marks.get_u8(c) == 0 && !is_ignored(c)) {
        for c in c.to_lowercase() {
            match c {
                c if c.is_whitespace() && folded.ends_with(' ') => {}
                c if c.is_whitespace() => folded.push(' '),
                // The common ones of those that Unicode doesn't take apart.
                'æ' => folded.push_str("ae"),
                'œ' => folded.push_str("oe"),
                'ß' => folded.push_str("ss"),
                'þ' => folded.push_str("th"),
                'đ' | 'ð' => folded.push('d'),
                'ħ' => folded.push('h'),
                'ı' => folded.push('i'),
                'ł' => folded.push('l'),
                'ŋ' => folded.push('n'),
                'ø' => folded.push('o'),
                'ŧ' => folded.push('t'),
                'ς' => folded.push('σ'),
                c => folded.push(c),
            }
        }
    }
    folded.trim().to_owned()
}

/// The words of a text, folded, each at most [`limits::WORD_BYTES`] long. An ideograph and an emoji are words of their
/// own, since nothing stands between one and the next.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for run in fold(text).split(is_separator) {
        let mut word = String::new();
        for c in run.chars() {
            let alone = stands_alone(c);
            if alone {
                words.push(std::mem::take(&mut word));
            }
            word.push(c);
            if alone {
                words.push(std::mem::take(&mut word));
            }
        }
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    for word in &mut words {
        word.truncate(cut(word, limits::WORD_BYTES).len());
    }
    words
}

/// As much of a text as `bytes` hold without breaking a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || c.is_ascii_punctuation()
        || matches!(c, '\u{80}'..='\u{BF}' | '\u{2000}'..='\u{206F}' | '\u{3000}'..='\u{303F}')
}

fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{1F000}'..='\u{3FFFF}')
}

/// Characters that say how their neighbours are to be shown.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_plainly_is_what_is_written() {
        for (written, typed) in [
            ("José", "jose"),
            ("Jose\u{301}", "JOSE"),
            ("Zoë Ångström", "zoe angstrom"),
            ("Łukasz Ørsted", "lukasz orsted"),
            ("Straße", "STRASSE"),
            ("Æthelþryð", "aethelthryd"),
            ("Đorđe", "dorde"),
            ("İstanbul ılık", "istanbul ilik"),
            ("Ａｌｉｃｅ　Ｓｍｉｔｈ", "alice smith"),
            ("𝓐𝓵𝓲𝓬𝓮", "alice"),
            ("ﬁn", "fin"),
            ("Ὀδυσσεύς", "ΟΔΥΣΣΕΥΣ"),
            ("Ёлка", "елка"),
            ("ｶﾞ", "ガ"),
            ("  a \t\n b ", "A B"),
            ("zero\u{200B}width\u{FEFF}", "zerowidth"),
            ("\u{202E}evil", "evil"),
        ] {
            assert_eq!(fold(written), fold(typed), "{written}");
        }
        for (one, other) in [("ja", "jo"), ("は", "ひ"), ("山", "川"), ("c", "ć̣x")] {
            assert_ne!(fold(one), fold(other));
        }
    }

    #[test]
    fn words_end_at_punctuation_and_around_ideographs() {
        for (text, expected) in [
            ("Alice Smith", &["alice", "smith"][..]),
            ("alice.smith_99", &["alice", "smith", "99"]),
            ("O'Neill-Łódź", &["o", "neill", "lodz"]),
            ("«Anne»—Marie…", &["anne", "marie"]),
            ("山田太郎", &["山", "田", "太", "郎"]),
            ("Fox🦊🦊", &["fox", "🦊", "🦊"]),
            ("ไทย हिन्दी", &["ไทย", "हिनदी"]),
            ("", &[]),
            (" .-_ ", &[]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        let long = words(&"я".repeat(100));
        assert_eq!(long, ["я".repeat(limits::WORD_BYTES / 2)]);
        let odd = words(&format!("x{}", "я".repeat(100)));
        assert_eq!(odd[0].len(), limits::WORD_BYTES - 1);
    }
}
