//! Where in a request callers show their credentials.

use axum::extract::Request;
use axum::http::header;

use crate::access::Credential;

/// Where in a request callers show their credentials, and how they are told about it.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct CredentialSource {
    /// Reads what is shown.
    pub(in crate::http) read: for<'r> fn(&'r Request) -> Credential<'r>,
    /// What a caller should do that shows nothing, or nothing that is known.
    pub(in crate::http) hint: &'static str,
}

/// A bearer token in the header `Authorization` (RFC 6750 §2.1).
pub(in crate::http) const BEARER: CredentialSource = CredentialSource {
    read: bearer,
    hint: "send Authorization: Bearer TOKEN; `dunlin token create` makes one for api.tokens_file",
};

fn bearer(request: &Request) -> Credential<'_> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Credential::None };
    let pair = value.to_str().ok().and_then(|text| text.split_once(' '));
    match pair {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Credential::Token(token.trim())
        }
        _ => Credential::Other,
    }
}
