//! Wildcards as Matrix writes them: `*` for any run of characters and, where the caller allows it, `?` for one.
//!
//! The parts between stars are sought one behind the other, each at its first place, and none is sought twice. So matching
//! takes some steps for each byte of the pattern and of the text, whatever the pattern, and no memory. Only a part with
//! `?` in it is compared at every place where it may stand: that takes at most length × length / 4 steps for a text of
//! that length. Who lets patterns with `?` at long texts counts them.

/// Which characters of a pattern are special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcards {
    /// Only `*`, as in filters.
    Star,
    /// `*` and `?`, as in server ACLs, push rules and policy lists.
    StarAndQuestionMark,
}

/// Tells whether the whole of `text` matches `pattern`. Case-sensitive: fold both first where the rule is not.
pub fn matches(pattern: &str, text: &str, wildcards: Wildcards) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return wildcards.prefix(pattern, text) == Some(text.len());
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(begun) = wildcards.prefix(first, text) else { return false };
    let Some(end) = wildcards.suffix(last, &text[begun..]) else { return false };
    let mut text = &text[begun..begun + end];
    for part in middle.split('*') {
        let Some(end) = wildcards.find(part, text) else { return false };
        text = &text[end..];
    }
    true
}

impl Wildcards {
    /// Where the part of a text ends that matches a pattern without stars and stands at the text's start.
    fn prefix(self, pattern: &str, text: &str) -> Option<usize> {
        if !self.is_special(pattern) {
            return text.starts_with(pattern).then_some(pattern.len());
        }
        let mut rest = text.chars();
        for wanted in pattern.chars() {
            if rest.next().is_none_or(|character| wanted != '?' && wanted != character) {
                return None;
            }
        }
        Some(text.len() - rest.as_str().len())
    }

    /// Where the part of a text starts that matches a pattern without stars and stands at the text's end.
    fn suffix(self, pattern: &str, text: &str) -> Option<usize> {
        if !self.is_special(pattern) {
            return text.strip_suffix(pattern).map(str::len);
        }
        let mut rest = text.chars();
        for wanted in pattern.chars().rev() {
            if rest.next_back().is_none_or(|character| wanted != '?' && wanted != character) {
                return None;
            }
        }
        Some(rest.as_str().len())
    }

    /// Where the first part of a text ends that matches a pattern without stars.
    fn find(self, pattern: &str, text: &str) -> Option<usize> {
        if !self.is_special(pattern) {
            return text.find(pattern).map(|start| start + pattern.len());
        }
        // A place behind which too little is left is not worth a look.
        let places = (text.len() + 1).saturating_sub(pattern.chars().count());
        let mut starts = text.char_indices().map(|(start, _)| start).take_while(|start| *start < places);
        starts.find_map(|start| self.prefix(pattern, &text[start..]).map(|length| start + length))
    }

    fn is_special(self, pattern: &str) -> bool {
        self == Self::StarAndQuestionMark && pattern.contains('?')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn star(pattern: &str, text: &str) -> bool {
        matches(pattern, text, Wildcards::Star)
    }

    #[test]
    fn stars_stand_for_any_run() {
        assert!(star("m.room.*", "m.room.message"));
        assert!(star("*", ""));
        assert!(star("*.room.*.x", "m.room.a.b.x"));
        assert!(star("a*b*c", "abbbcbc"));
        assert!(!star("m.room", "m.room.message"));
        assert!(!star("m.room.*", "m.roo"));
        assert!(!star("a*b", "acbd"));
        assert!(!star("", "a"));
    }

    #[test]
    fn a_question_mark_is_one_character_where_allowed() {
        let both = |pattern, text| matches(pattern, text, Wildcards::StarAndQuestionMark);
        assert!(both("?.example.org", "ü.example.org"));
        assert!(both("ev?l*", "evil.example.org"));
        assert!(!both("ab?", "ab"));
        assert!(star("a?", "a?"));
        assert!(!star("a?", "ab"));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let text = "a".repeat(60_000) + "b";
        for _ in 0..1_000 {
            assert!(!star(&"*a".repeat(30_001), &text));
            assert!(!star(&(("*".to_owned() + &"a".repeat(200) + "c").repeat(200) + "*"), &text));
            assert!(!star(&("*".repeat(60_000) + "c"), &text));
        }
    }

    /// Whether a text matches, by the definition alone.
    fn plainly(pattern: &[char], text: &[char], wildcards: Wildcards) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            (['*', rest @ ..], _) => (0..=text.len()).any(|run| plainly(rest, &text[run..], wildcards)),
            (['?', pattern @ ..], [_, text @ ..]) if wildcards == Wildcards::StarAndQuestionMark => {
                plainly(pattern, text, wildcards)
            }
            ([wanted, pattern @ ..], [character, text @ ..]) => {
                wanted == character && plainly(pattern, text, wildcards)
            }
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_match_is_what_the_definition_says(pattern in "[abü*?]{0,8}", text in "[abü?]{0,12}") {
            let (of_pattern, of_text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            for wildcards in [Wildcards::Star, Wildcards::StarAndQuestionMark] {
                prop_assert_eq!(
                    matches(&pattern, &text, wildcards),
                    plainly(&of_pattern, &of_text, wildcards)
                );
            }
        }
    }
}
