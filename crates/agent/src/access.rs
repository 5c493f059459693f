//! Who may do what over the API: what a caller is granted, and what grants it.
//!
//! A caller comes over TCP, with a token or without, or over the local socket as a user of this host.
//! [`Access::grant`] makes a [`Grant`] of that. Reading and administering are judged by the call alone, at
//! the edge; whether a service may be registered is judged by the driver, which alone knows what a
//! statement replaces. Nothing here knows HTTP.

mod file;
mod grant;
mod scope;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_core::config::{ApiConfig, SocketUsers};

pub use file::{SharedTokens, TokensError};
pub use grant::Grant;
pub use scope::{Scope, ScopeError};
pub use token::{BadTokens, NewToken, Tokens};

/// Where a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Behind the network; certificates were checked before it could say anything.
    Remote(SocketAddr),
    /// On this host, as this user.
    Local(u32),
}

/// What a caller showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Nothing.
    Nothing,
    /// A token.
    Token(&'a str),
    /// Something that is not a token.
    Other,
}

/// The token is none that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownToken;

/// The rules of one agent.
#[derive(Debug, Clone)]
pub struct Access {
    tokens: Option<Arc<SharedTokens>>,
    socket_users: SocketUsers,
    /// The agent's own user.
    own: u32,
}

/// Root, as whom everything is allowed.
const ROOT: u32 = 0;

impl Access {
    /// As the settings say. `own` is the user that the agent runs as.
    #[must_use]
    pub fn new(config: &ApiConfig, tokens: Option<Arc<SharedTokens>>, own: u32) -> Self {
        Self { tokens, socket_users: config.socket_users, own }
    }

    /// What a caller may do. Without a file of tokens, what was shown says nothing.
    ///
    /// # Errors
    /// When a token was shown and is not known, so that its owner does not get less without a word.
    pub fn grant(&self, caller: Caller, shown: Shown<'_>) -> Result<Grant, UnknownToken> {
        let by_place = match caller {
            Caller::Remote(_) if self.tokens.is_some() => Grant::nothing(),
            Caller::Remote(_) => Grant::everything(),
            Caller::Local(user) if user == ROOT || user == self.own => Grant::everything(),
            Caller::Local(_) => match self.socket_users {
                SocketUsers::Admin => Grant::everything(),
                SocketUsers::Read => Grant::reading(),
            },
        };
        let Some(tokens) = &self.tokens else { return Ok(by_place) };
        match shown {
            Shown::Nothing => Ok(by_place),
            Shown::Other => Err(UnknownToken),
            Shown::Token(token) => {
                tokens.current().find(token).map(|g| g.or(by_place)).ok_or(UnknownToken)
            }
        }
    }

    /// Whether a token would be of any use.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.tokens.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const REMOTE: Caller =
        Caller::Remote(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1));

    fn access(users: SocketUsers, tokens: Option<&str>) -> Access {
        let config = ApiConfig { socket_users: users, ..ApiConfig::default() };
        let tokens = tokens.map(|t| Arc::new(SharedTokens::fixed(Tokens::parse(t).unwrap())));
        Access::new(&config, tokens, 5380)
    }

    #[test]
    fn without_tokens_tcp_is_open_and_users_are_told_apart_on_the_socket() {
        let access = access(SocketUsers::Read, None);
        for (caller, is_admin) in [
            (REMOTE, true),
            (Caller::Local(0), true),
            (Caller::Local(5380), true),
            (Caller::Local(7), false),
        ] {
            let grant = access.grant(caller, Shown::Token("whatever")).unwrap();
            assert!(grant.may_read());
            assert_eq!(grant.may_administer(), is_admin, "{caller:?}");
        }
    }

    #[test]
    fn with_tokens_tcp_needs_one_and_it_adds_to_what_a_user_may_do() {
        let token = NewToken::generate().unwrap();
        let scopes = [Scope::parse("register:web").unwrap()];
        let access = access(SocketUsers::Read, Some(&token.entry("deploy", &scopes)));
        assert!(!access.grant(REMOTE, Shown::Nothing).unwrap().may_read());
        assert_eq!(access.grant(REMOTE, Shown::Token("dunlin_guess")), Err(UnknownToken));
        assert_eq!(access.grant(Caller::Local(7), Shown::Other), Err(UnknownToken));
        for caller in [REMOTE, Caller::Local(7)] {
            let grant = access.grant(caller, Shown::Token(token.secret())).unwrap();
            assert!(grant.may_read() && grant.may_register_some() && !grant.may_administer());
        }
        assert!(
            access.grant(Caller::Local(0), Shown::Token(token.secret())).unwrap().may_administer()
        );
    }
}
