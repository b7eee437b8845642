//! The endpoint's address: what of it may be shown, and what must not come back.

use std::fmt;

use url::{Host, Url, form_urlencoded};

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

    /// Returns what its query string says, as far as that may be secret: as it was typed, as it is
    /// sent and as it is meant, since any of them may be repeated.
    pub fn secrets(&self) -> Vec<Secret> {
        let typed = self.typed.split('#').next().unwrap_or_default();
        let typed = typed.split_once('?').map(|(_, query)| query);
        let sent = self.url.as_ref().and_then(Url::query);
        let mut texts: Vec<String> = [typed, sent]
            .into_iter()
            .flatten()
            .flat_map(|query| query.split('&'))
            .flat_map(secret_spellings)
            .collect();
        texts.sort();
        texts.dedup();
        texts.into_iter().filter_map(Secret::new).collect()
    }
}

/// Returns the secret of a pair of a query string, raw and decoded: its value, or its name where it
/// has none.
fn secret_spellings(pair: &str) -> Vec<String> {
    let raw = pair.split_once('=').unwrap_or((pair, ""));
    let decoded = form_urlencoded::parse(pair.as_bytes()).next();
    let Some((name, value)) = decoded.filter(|(name, _)| name != API_VERSION) else {
        return Vec::new();
    };
    let secret = |name: &str, value: &str| {
        // A name may end with the padding of base64.
        let has_value = !value.trim_matches('=').is_empty();
        if has_value { value } else { name }.to_owned()
    };
    vec![secret(raw.0, raw.1), secret(&name, &value)]
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

    // Negative control: taking the version for a secret, or the key for none; leaving out a spelling
    // or the names.
    #[test]
    fn what_a_query_string_says_is_secret_but_for_the_version() {
        for (query, spelled) in [
            ("key=a%2Fb+secret", &["a/b secret", "a%2Fb+secret"][..]),
            ("key=abcd+efgh", &["abcd efgh", "abcd+efgh"]),
            ("SECRETsecret", &["SECRETsecret"]),
            ("SECRETsecret=", &["SECRETsecret"]),
            ("SECRETsecret==", &["SECRETsecret"]),
            ("key=SECRET\tsecret", &["SECRETsecret", "SECRET\tsecret"]),
            ("key=abcdefgh==", &["abcdefgh=="]),
        ] {
            let url = base_url(&format!(
                "https://h/v1?api-version=2026-01-01&{query}&x=1&y#z=abcdefgh"
            ));
            let secrets = url.secrets();
            assert_eq!(secrets.len(), spelled.len(), "{query:?}");
            for text in spelled {
                let stands = |secret: &Secret| secret.stands_in(format!("..{text}..").as_bytes());
                assert!(secrets.iter().any(stands), "{text:?}");
            }
        }
    }

    #[test]
    fn a_user_in_the_address_is_seen() {
        for typed in ["https://u:p@h/v1", "https://u@h", "https://:p@h/v1"] {
            assert!(base_url(typed).names_user(), "{typed}");
        }
        assert!(!base_url("https://h/v1/a@b?c=d@e").names_user());
    }
}
