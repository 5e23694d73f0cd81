//! Addresses on the web, and what a redirect makes of them (RFC 3986, section 5.2).

use std::fmt;

use ureq::http::Uri;

use super::failure::quote;

/// An absolute address of http or https, without user or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Uri);

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("{} is no address; expected https://HOST/PATH", quote(text));
        let without_fragment = text.split('#').next().unwrap_or("");
        let uri: Uri = without_fragment.parse().map_err(|_| refuse())?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !is_web || has_user || uri.host().is_none_or(str::is_empty) {
            return Err(refuse());
        }
        Ok(Self(uri))
    }

    /// An address below this one; the segments are escaped.
    pub(crate) fn below(&self, segments: &[&str]) -> Result<Self, String> {
        let escaped: Vec<String> = segments.iter().map(|segment| escape(segment)).collect();
        Self::parse(&format!("{}/{}", self.to_string().trim_end_matches('/'), escaped.join("/")))
    }

    /// Where a `Location` header in an answer from this address leads.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let location = location.trim().split('#').next().unwrap_or("");
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        let path = self.0.path();
        if has_scheme(location) {
            Self::parse(location)
        } else if location.starts_with("//") {
            Self::parse(&format!("{scheme}:{location}"))
        } else if location.starts_with('/') {
            Self::parse(&format!("{scheme}://{authority}{location}"))
        } else if location.starts_with('?') {
            Self::parse(&format!("{scheme}://{authority}{path}{location}"))
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Self::parse(&format!("{scheme}://{authority}{folder}/{location}"))
        }
    }

    /// Whether both are of one scheme, host and port.
    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        self.origin() == other.origin()
    }

    fn origin(&self) -> (bool, String, u16) {
        let default = if self.is_secure() { 443 } else { 80 };
        (self.is_secure(), self.host().to_ascii_lowercase(), self.0.port_u16().unwrap_or(default))
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether it is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

fn has_scheme(location: &str) -> bool {
    let Some((scheme, _)) = location.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|next| next.is_ascii_alphanumeric() || "+-.".contains(next))
}

/// Escapes what is not unreserved (RFC 3986, section 2.3), slashes too.
fn escape(segment: &str) -> String {
    let escaped = segment.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn redirects_lead_where_browsers_go() {
        let from = address("https://hub.example:8443/org/name/resolve/main/config.json?download=1");
        for (location, expected) in [
            ("http://other/x#part", "http://other/x"),
            ("HTTPS://other/x", "https://other/x"),
            ("//other/x", "https://other/x"),
            ("/cdn/x?y=a:b", "https://hub.example:8443/cdn/x?y=a:b"),
            ("?again", "https://hub.example:8443/org/name/resolve/main/config.json?again"),
            ("other.json", "https://hub.example:8443/org/name/resolve/main/other.json"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), expected, "{location}");
        }
        for location in
            ["file:///etc/passwd", "ftp://a/b", "https://user@hub.example/", "https://", "data:,x", "/a b"]
        {
            assert!(from.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let home = address("https://hub.example/api");
        assert!(home.is_same_origin(&address("https://HUB.example:443/else")));
        for other in ["http://hub.example/api", "https://hub.example:444/api", "https://hub.example.evil/api"]
        {
            assert!(!home.is_same_origin(&address(other)), "{other}");
        }
        assert!(address("http://[::1]:80/").is_loopback() && address("http://127.0.0.2").is_loopback());
        assert!(!address("http://127.0.0.1.evil/").is_loopback());
    }

    #[test]
    fn segments_are_escaped() {
        let below = address("http://h/base/").below(&["org", "refs/pr/1", "ä b"]).unwrap();
        assert_eq!(below.to_string(), "http://h/base/org/refs%2Fpr%2F1/%C3%A4%20b");
    }
}
