//! Rust source as words and signs, without comments and without what stands in quotes.

/// A word, `::` or a single sign, and the line that it is on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_part)
    }
}

/// All tokens of a file. What cannot be valid Rust gives some tokens, too: the compiler is the one to complain.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let octets = skipped(rest);
        let token = if octets > 0 { "" } else { token(rest, first) };
        if !token.is_empty() {
            found.push(Token { text: token, line });
        }
        let octets = octets.max(token.len());
        line += rest[..octets].matches('\n').count();
        rest = &rest[octets..];
    }
    found
}

/// Octets of the space, the comment or the literal that `rest` begins with; none if it begins with something else.
fn skipped(rest: &str) -> usize {
    let end_of = |end: &str, from: usize| {
        rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return end_of("*/", 2);
    }
    if let Some(quote) = raw_quote(rest) {
        let hashes = rest[..quote].matches('#').count();
        return end_of(&format!("\"{}", "#".repeat(hashes)), quote + 1);
    }
    match rest.as_bytes() {
        [b'"', ..] => end_of_string(rest, 1),
        [b'b', b'"', ..] => end_of_string(rest, 2),
        // A lifetime has no second quote behind its first character.
        [b'\'', b'\\', ..] => end_of("'", 3),
        [b'\'', ..] => rest[1..].chars().next().map_or(1, |c| {
            let end = 1 + c.len_utf8();
            if rest[end..].starts_with('\'') { end + 1 } else { 1 }
        }),
        _ => rest.len() - rest.trim_start().len(),
    }
}

/// Where the quote of a raw string is that `rest` begins with.
fn raw_quote(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let quote = raw.trim_start_matches('#');
    quote.starts_with('"').then(|| rest.len() - quote.len())
}

fn end_of_string(rest: &str, from: usize) -> usize {
    let mut is_escaped = false;
    let end = rest[from..].char_indices().find(|(_, c)| {
        let is_end = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(rest.len(), |(at, _)| from + at + 1)
}

fn token(rest: &str, first: char) -> &str {
    let length = if is_word_part(first) {
        rest.find(|c| !is_word_part(c)).unwrap_or(rest.len())
    } else if rest.starts_with("::") {
        2
    } else {
        first.len_utf8()
    };
    &rest[..length]
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_and_signs_are_told_apart() {
        assert_eq!(texts("use a::b_1;"), ["use", "a", "::", "b_1", ";"]);
    }

    #[test]
    fn comments_and_literals_hold_no_tokens() {
        let source = "a // b\n/* c\n */ \"d \\\" e\" r#\"f \" g\"# b\"h\" 'i' '\\'' '\"' j";
        assert_eq!(texts(source), ["a", "j"]);
    }

    #[test]
    fn a_lifetime_is_no_character() {
        assert_eq!(texts("&'a str, 'b'"), ["&", "a", "str", ","]);
    }

    #[test]
    fn a_word_that_begins_like_a_raw_string_is_a_word() {
        assert_eq!(texts("r breed r#type"), ["r", "breed", "r", "#", "type"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let found = tokens("a\n/*\n*/ b \"\n\" c");
        assert_eq!(found.iter().map(|token| token.line).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
