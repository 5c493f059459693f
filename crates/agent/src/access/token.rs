//! Tokens: how they are made, and how they are recognised without being stored.
//!
//! A token is 256 random bits, so its plain SHA-256 gives away nothing and needs no salt. The file holds
//! these sums alone, so reading the file does not allow anybody to use a token.

use std::fmt::Write;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use thiserror::Error;

use super::grant::Grant;
use super::scope::{Scope, ScopeError};

/// The beginning of all tokens, by which scanners of repositories and logs recognise one.
const MARK: &str = "dunlin_";
/// Random octets of a token.
const TOKEN_OCTETS: usize = 32;
/// Tokens of one file. The token of a request is compared with all of them.
const MAX_TOKENS: usize = 1024;
/// Octets that a caller may show as a token.
const MAX_SHOWN_OCTETS: usize = 512;
/// Octets of a token's name.
const MAX_NAME_OCTETS: usize = 128;

/// Why a file of tokens is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadTokens {
    /// It is not TOML, or has other keys.
    #[error("{}", .0.trim_end())]
    Syntax(String),
    /// There are more tokens than the limit.
    #[error("{0} tokens; at most {MAX_TOKENS} are allowed")]
    TooMany(usize),
    /// A name is empty, too long, or there twice.
    #[error("token {0:?}: a name has 1 to {MAX_NAME_OCTETS} octets and is there once")]
    Name(String),
    /// A sum is not one of SHA-256.
    #[error(
        "token {0:?}: sha256 is not 64 hexadecimal digits; `dunlin token create` prints what belongs there"
    )]
    Sum(String),
    /// A scope is not known.
    #[error("token {name:?}: {error}")]
    Scope {
        /// The token's name.
        name: String,
        /// What is wrong with it.
        error: ScopeError,
    },
    /// A token without scopes is of no use.
    #[error("token {0:?} has no scopes; take it out, or say what it is for")]
    NoScopes(String),
}

/// All tokens of one file.
#[derive(Debug, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Debug)]
struct Token {
    sum: [u8; digest::SHA256_OUTPUT_LEN],
    grant: Grant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: Vec<String>,
}

impl Tokens {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing of the file is taken then.
    pub fn parse(text: &str) -> Result<Self, BadTokens> {
        let file: File = toml::from_str(text).map_err(|e| BadTokens::Syntax(e.to_string()))?;
        if file.token.len() > MAX_TOKENS {
            return Err(BadTokens::TooMany(file.token.len()));
        }
        let mut names: Vec<&str> = file.token.iter().map(|entry| &*entry.name).collect();
        names.sort_unstable();
        let is_bad = |name: &&str| name.is_empty() || name.len() > MAX_NAME_OCTETS;
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        if let Some(name) = names.iter().find(|n| is_bad(n)).copied().or(twice) {
            return Err(BadTokens::Name(name.chars().take(MAX_NAME_OCTETS).collect()));
        }
        file.token.iter().map(Token::read).collect::<Result<_, _>>().map(Self)
    }

    /// What the token that is shown allows; `None` if it is not one of these. The call takes the same time for each of
    /// them.
    #[must_use]
    pub fn find(&self, shown: &str) -> Option<Grant> {
        if shown.len() > MAX_SHOWN_OCTETS {
            return None;
        }
        let sum = digest::digest(&digest::SHA256, shown.as_bytes());
        let mut found = None;
        for token in &self.0 {
            if verify_slices_are_equal(&token.sum, sum.as_ref()).is_ok() {
                found = Some(&token.grant);
            }
        }
        found.cloned()
    }

    /// The number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no tokens, so that no caller gets in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Token {
    fn read(entry: &Entry) -> Result<Self, BadTokens> {
        let name = || entry.name.clone();
        let sum = from_hex(&entry.sha256).ok_or_else(|| BadTokens::Sum(name()))?;
        if entry.scopes.is_empty() {
            return Err(BadTokens::NoScopes(name()));
        }
        let scopes: Result<Vec<Scope>, _> = entry.scopes.iter().map(|s| Scope::parse(s)).collect();
        let scopes = scopes.map_err(|error| BadTokens::Scope { name: name(), error })?;
        Ok(Self { sum, grant: Grant::of(&scopes) })
    }
}

/// A token that was just made; the only place where it can be read.
pub struct NewToken(String);

impl NewToken {
    /// Makes a token of the system's random numbers.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut octets = [0; TOKEN_OCTETS];
        let filled = SystemRandom::new().fill(&mut octets);
        filled.map_err(|_| std::io::Error::other("the system has no random numbers"))?;
        Ok(Self(format!("{MARK}{}", to_hex(&octets))))
    }

    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The lines for the file of tokens.
    #[must_use]
    pub fn entry(&self, name: &str, scopes: &[Scope]) -> String {
        let sum = to_hex(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let scopes: Vec<String> = scopes.iter().map(|s| quoted(&s.to_string())).collect();
        let scopes = scopes.join(", ");
        format!("[[token]]\nname = {}\nsha256 = \"{sum}\"\nscopes = [{scopes}]\n", quoted(name))
    }
}

fn to_hex(octets: &[u8]) -> String {
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = text.len() == 2 * N && text.bytes().all(|b| b.is_ascii_hexdigit());
    let pair = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let octets: Option<Vec<u8>> = (0..N).map(pair).collect();
    octets.filter(|_| is_hex)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_by_its_sum_and_the_file_does_not_hold_it() {
        let [one, two] = [(); 2].map(|()| NewToken::generate().unwrap());
        let text =
            one.entry("a \"quoted\" name", &[Scope::Read]) + &two.entry("b", &[Scope::Admin]);
        assert!(!text.contains(&one.secret()[MARK.len()..]));
        let tokens = Tokens::parse(&text).unwrap();
        assert!(!tokens.find(one.secret()).unwrap().may_administer());
        assert!(tokens.find(two.secret()).unwrap().may_administer());
        assert_eq!(one.secret().len(), MARK.len() + 2 * TOKEN_OCTETS);
        for shown in ["", "dunlin_", &one.secret()[1..], &"x".repeat(1 << 20)] {
            assert_eq!(tokens.find(shown), None);
        }
    }

    #[test]
    fn the_sum_is_what_sha256sum_prints() {
        // printf %s dunlin_test | sha256sum
        let token = NewToken("dunlin_test".to_owned());
        let sum = "e371e923741ebc94fc5545e20ebd0c4afaa2649d5027cd1b88c4561e16087574";
        assert!(
            token.entry("t", &[Scope::Read]).contains(sum),
            "{}",
            token.entry("t", &[Scope::Read])
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_the_token_that_has_it() {
        let sum = "0".repeat(64);
        let token = |name: &str, sum: &str, scopes: &str| {
            format!("[[token]]\nname = \"{name}\"\nsha256 = \"{sum}\"\nscopes = {scopes}\n")
        };
        for (text, said) in [
            ("token = 1".to_owned(), "invalid type"),
            ("[[tokens]]".to_owned(), "unknown field `tokens`"),
            (token("a", &sum, "[\"reed\"]"), "token \"a\": \"reed\" is not a scope"),
            (token("a", "00", "[\"read\"]"), "token \"a\": sha256 is not 64"),
            (token("a", &"é".repeat(32), "[\"read\"]"), "token \"a\": sha256 is not 64"),
            (token("a", &sum, "[]"), "token \"a\" has no scopes"),
            (token("", &sum, "[\"read\"]"), "a name has 1 to 128"),
            (token("a", &sum, "[\"read\"]").repeat(2), "token \"a\": a name"),
            (format!("{}secret = 1", token("a", &sum, "[\"read\"]")), "unknown field `secret`"),
        ] {
            let error = Tokens::parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{said}\n{error}");
        }
        let many: String =
            (0..=MAX_TOKENS).map(|n| token(&n.to_string(), &sum, "[\"read\"]")).collect();
        assert_eq!(Tokens::parse(&many).unwrap_err(), BadTokens::TooMany(MAX_TOKENS + 1));
        assert!(Tokens::parse("").unwrap().is_empty(), "which lets nobody in");
    }
}
