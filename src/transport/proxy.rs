//! Whether the proxy that the environment names for an address can be used at all.
//!
//! The library passes over a variable that it cannot read, and asks the server directly: what was
//! meant to go through the proxy would go around it. No value is ever shown, since it may hold a
//! password.

use std::ffi::OsString;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// Returns the variable that names a proxy for an address, if it cannot be used.
pub fn unusable_proxy(url: &Url) -> Option<&'static str> {
    unusable(url, |name| std::env::var_os(name))
}

fn unusable(url: &Url, variable: impl Fn(&str) -> Option<OsString>) -> Option<&'static str> {
    // Under CGI the library takes no proxies: whoever asks could set them by a header.
    if variable("REQUEST_METHOD").is_some() {
        return None;
    }
    let own = match url.scheme() {
        "https" => ["HTTPS_PROXY", "https_proxy"],
        _ => ["HTTP_PROXY", "http_proxy"],
    };
    let set = |names: [&'static str; 2]| {
        let mut set = names
            .iter()
            .filter_map(|name| Some((*name, variable(name)?)));
        set.next().filter(|(_, value)| !value.is_empty())
    };
    let (name, value) = set(own).or_else(|| set(["ALL_PROXY", "all_proxy"]))?;
    let exceptions = set(["NO_PROXY", "no_proxy"])
        .and_then(|(_, value)| value.into_string().ok())
        .unwrap_or_default();
    let uri: Uri = url.as_str().parse().ok()?;
    let way = |proxy: &str| {
        let matcher = Matcher::builder().all(proxy).no(exceptions.as_str());
        matcher.build().intercept(&uri)
    };
    // A server that is asked directly needs no proxy.
    way("http://127.0.0.1:1")?;
    let way = value.to_str().and_then(way);
    (!way.is_some_and(|way| has_sound_port(way.uri()))).then_some(name)
}

/// Tells whether the port is one, where there is one.
fn has_sound_port(proxy: &Uri) -> bool {
    proxy.authority().is_some_and(|authority| {
        authority.as_str() == authority.host() || authority.port_u16().is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(set: &[(&str, &str)]) -> Option<&'static str> {
        let url = Url::parse("https://llm.example/v1").unwrap();
        unusable(&url, |name| {
            let found = set.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| value.into())
        })
    }

    // Negative control: leaving `way` without the exceptions, or `has_sound_port` out.
    #[test]
    fn a_variable_counts_as_the_library_takes_it() {
        for value in [
            "http://proxy:3128",
            "proxy:3128",
            "proxy",
            "http://user:p%40ss@proxy:3128/",
            "https://proxy",
            "socks5h://[::1]:1080",
            "",
        ] {
            assert_eq!(refused(&[("HTTPS_PROXY", value)]), None, "{value}");
            assert_eq!(refused(&[("all_proxy", value)]), None, "{value}");
        }
        for value in [
            "::bad",
            "http://",
            "ftp://proxy",
            "http://proxy:99999",
            "http://proxy:x",
            " http://proxy",
            "/proxy",
        ] {
            let bad = ("HTTPS_PROXY", value);
            assert_eq!(refused(&[bad]), Some("HTTPS_PROXY"), "{value}");
            assert_eq!(refused(&[("all_proxy", value)]), Some("all_proxy"));
            assert_eq!(refused(&[bad, ("NO_PROXY", ".example")]), None);
            assert_eq!(refused(&[bad, ("REQUEST_METHOD", "GET")]), None);
            assert_eq!(refused(&[("HTTP_PROXY", value)]), None);
            let good = ("https_proxy", "http://proxy");
            assert_eq!(refused(&[good, ("ALL_PROXY", value)]), None);
        }
    }
}
