//! Rights over the API: what a caller may do, and what gives it that.
//!
//! A caller comes over TCP, with a token or without, or over the local socket as a user of this host. [`Access::grant`]
//! makes a [`Grant`] of the [`Origin`] and the [`Credential`] of the caller. Reading and administering are judged by
//! the call alone, at the edge; whether a service may be registered is judged by the driver, which alone knows what a
//! statement replaces. Nothing here knows HTTP.

mod file;
mod grant;
mod scope;
mod token;

use std::sync::Arc;

use dunlin_core::config::{ApiConfig, SocketUsers};
use dunlin_shell::Origin;

pub use file::{SharedTokens, TokensError};
pub use grant::Grant;
pub use scope::{Scope, ScopeError};
pub use token::{BadTokens, NewToken, Tokens};

/// What a caller shows to prove its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// The caller shows nothing.
    None,
    /// The caller shows a token.
    Token(&'a str),
    /// The caller shows something that is not a token.
    Other,
}

/// A credential was shown that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownToken;

/// The rules of one agent: what a caller may do.
#[derive(Debug, Clone)]
pub struct Access {
    tokens: Option<Arc<SharedTokens>>,
    socket_users: SocketUsers,
    /// The agent's own user.
    own: u32,
}

/// The user id of root, who may do everything.
const ROOT: u32 = 0;

impl Access {
    /// The rules of a configuration. `own` is the user id that the agent runs as.
    #[must_use]
    pub fn new(config: &ApiConfig, tokens: Option<Arc<SharedTokens>>, own: u32) -> Self {
        Self { tokens, socket_users: config.socket_users, own }
    }

    /// What a caller may do. Without a file of tokens, credentials are not looked at.
    ///
    /// # Errors
    /// When a credential was shown and is not known. Its owner is told so instead of silently having fewer rights.
    pub fn grant(&self, origin: Origin, shown: Credential<'_>) -> Result<Grant, UnknownToken> {
        let by_place = match origin {
            Origin::Remote(_) if self.tokens.is_some() => Grant::nothing(),
            Origin::Remote(_) => Grant::everything(),
            Origin::Local(user) if user == ROOT || user == self.own => Grant::everything(),
            Origin::Local(_) => match self.socket_users {
                SocketUsers::Admin => Grant::everything(),
                SocketUsers::Read => Grant::reading(),
            },
        };
        let Some(tokens) = &self.tokens else { return Ok(by_place) };
        match shown {
            Credential::None => Ok(by_place),
            Credential::Other => Err(UnknownToken),
            Credential::Token(token) => {
                tokens.current().find(token).map(|g| g.or(by_place)).ok_or(UnknownToken)
            }
        }
    }

    /// Whether tokens are looked at.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.tokens.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    const REMOTE: Origin =
        Origin::Remote(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1));

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
            (Origin::Local(0), true),
            (Origin::Local(5380), true),
            (Origin::Local(7), false),
        ] {
            let grant = access.grant(caller, Credential::Token("whatever")).unwrap();
            assert!(grant.may_read());
            assert_eq!(grant.may_administer(), is_admin, "{caller:?}");
        }
    }

    #[test]
    fn with_tokens_tcp_needs_one_and_it_adds_to_what_a_user_may_do() {
        let token = NewToken::generate().unwrap();
        let scopes = [Scope::parse("register:web").unwrap()];
        let access = access(SocketUsers::Read, Some(&token.entry("deploy", &scopes)));
        assert!(!access.grant(REMOTE, Credential::None).unwrap().may_read());
        assert_eq!(access.grant(REMOTE, Credential::Token("dunlin_guess")), Err(UnknownToken));
        assert_eq!(access.grant(Origin::Local(7), Credential::Other), Err(UnknownToken));
        for caller in [REMOTE, Origin::Local(7)] {
            let grant = access.grant(caller, Credential::Token(token.secret())).unwrap();
            assert!(grant.may_read() && grant.may_register_some() && !grant.may_administer());
        }
        assert!(
            access
                .grant(Origin::Local(0), Credential::Token(token.secret()))
                .unwrap()
                .may_administer()
        );
    }
}
