//! Wildcards as Matrix writes them: `*` for any run of characters and, where the caller allows it, `?` for one.
//!
//! Matching takes at most pattern × text steps and no memory, whatever the pattern: nobody can send a slow one.

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
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and the text that it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let here = pattern.get(p).copied();
        if here == Some(b'*') {
            star = Some((p, t));
            p += 1;
        } else if here == Some(b'?') && wildcards == Wildcards::StarAndQuestionMark {
            p += 1;
            t += character_len(text[t]);
        } else if here == Some(text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, swallowed)) = star {
            star = Some((after, swallowed + 1));
            p = after + 1;
            t = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&rest| rest == b'*')
}

/// The length of the UTF-8 character that starts with `first`, so that `?` stands for a character and not a byte.
fn character_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
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
        let pattern = "*a".repeat(500);
        let text = "a".repeat(10_000) + "b";
        assert!(!star(&pattern, &text));
    }
}
