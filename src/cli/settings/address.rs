//! The endpoint's address: what of it may be shown, and what must not come back.

use std::fmt;

use url::{Host, Url};

use crate::transport::Secret;

/// The one parameter of an address that is known to be no secret.
const API_VERSION: &str = "api-version";

/// A base URL as it was typed. It shows itself without its query string, which can hold a key.
pub struct BaseUrl {
    typed: String,
    /// `None` where it cannot be read, which the provider refuses with the reason.
    url: Option<Url>,
}

impl BaseUrl {
    pub fn new(typed: String) -> Self {
        BaseUrl {
            url: Url::parse(typed.trim()).ok(),
            typed,
        }
    }

    /// Returns it whole, for whoever sends to it.
    pub fn reveal(&self) -> &str {
        &self.typed
    }

    /// Tells whether it is on this machine, where servers mostly run without a key.
    pub fn is_loopback(&self) -> bool {
        match self.url.as_ref().and_then(Url::host) {
            // Names below it may be asked of a server elsewhere.
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Tells whether everyone on the way can read along.
    pub fn is_plain(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme() == "http")
    }

    /// Tells whether a user name or a password stands in front of the host.
    pub fn names_user(&self) -> bool {
        let names_one = |url: &Url| !url.username().is_empty() || url.password().is_some();
        self.url.as_ref().is_some_and(names_one)
    }

    /// Returns what its query string says, as far as that may be secret.
    pub fn secrets(&self) -> Vec<Secret> {
        let pairs = self.url.iter().flat_map(Url::query_pairs);
        pairs
            .filter(|(name, _)| name != API_VERSION)
            .filter_map(|(_, value)| Secret::new(&*value.into_owned()))
            .collect()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.typed.split(['?', '#']).next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_url(typed: &str) -> BaseUrl {
        BaseUrl::new(typed.to_owned())
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for url in [
            "http://127.0.0.1:8080/v1",
            "http://localhost",
            "http://[::1]:1/v1",
            "http://127.9.9.9",
        ] {
            assert!(base_url(url).is_loopback(), "{url}");
        }
        for url in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "http://127.0.0.1@example.com",
            "http://0.0.0.0",
            "http://llm.localhost",
            "nonsense",
        ] {
            assert!(!base_url(url).is_loopback(), "{url}");
        }
    }

    #[test]
    fn the_query_string_is_not_shown() {
        for typed in ["https://h/v1?key=secret-0123", "https://h/v1#secret-0123"] {
            assert_eq!(base_url(typed).to_string(), "https://h/v1");
        }
    }

    // Turned red by: taking the version for a secret, or the key for none.
    #[test]
    fn what_a_query_string_says_is_secret_but_for_the_version() {
        let url = base_url("https://h/v1?api-version=2026-01-01&key=a%2Fb+secret&x=1");
        let secrets = url.secrets();
        assert_eq!(secrets.len(), 1);
        assert!(secrets[0].stands_in(b"...a/b secret..."));
    }

    #[test]
    fn a_user_in_the_address_is_seen() {
        for typed in ["https://u:p@h/v1", "https://u@h", "https://:p@h/v1"] {
            assert!(base_url(typed).names_user(), "{typed}");
        }
        assert!(!base_url("https://h/v1/a@b?c=d@e").names_user());
    }
}
