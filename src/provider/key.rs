//! The secret that opens an endpoint. It never prints, and it is checked once, where it enters.

use std::fmt;

use http::HeaderValue;

/// An API key that is fit for a header.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a text cannot be a key. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadKey {
    Empty,
    /// A space, a line break, a control character or a letter outside ASCII.
    BadCharacter,
}

impl ApiKey {
    /// Checks a key as it was read from the environment or a file, already trimmed.
    pub fn new(text: impl Into<String>) -> Result<ApiKey, BadKey> {
        let text = text.into();
        if text.is_empty() {
            return Err(BadKey::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadKey::BadCharacter);
        }
        Ok(ApiKey(text))
    }

    /// Returns the secret itself, for code that must recognize it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the last two characters of a key that is long enough to give them away, so that
    /// its owner can tell which one it is.
    pub fn ending(&self) -> Option<&str> {
        (self.0.len() >= 16).then(|| &self.0[self.0.len() - 2..])
    }

    /// Returns the header value that carries the key behind `scheme`, marked as secret.
    pub(super) fn header(&self, scheme: &str) -> HeaderValue {
        let mut value = HeaderValue::try_from(format!("{scheme}{}", self.0))
            .expect("printable ASCII was checked when the key was made");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(Sensitive)")
    }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the key is empty",
            Self::BadCharacter => {
                "the key holds a space, a line break or another character that no header can carry"
            }
        })
    }
}

impl std::error::Error for BadKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_line_break_is_refused_without_being_shown() {
        for text in [
            "sk-hidden\n",
            "sk-\r\nhidden",
            "sk hidden",
            "sk-hidden\u{7f}",
            "sk-hiddén",
        ] {
            let error = ApiKey::new(text).unwrap_err();
            assert_eq!(error, BadKey::BadCharacter, "{text:?}");
            assert!(!format!("{error} {error:?}").contains("hidd"));
        }
        assert_eq!(ApiKey::new(""), Err(BadKey::Empty));
    }

    #[test]
    fn a_key_never_prints() {
        let key = ApiKey::new("sk-hidden").unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(Sensitive)");
        assert_eq!(format!("{:?}", key.header("Bearer ")), "Sensitive");
    }
}
