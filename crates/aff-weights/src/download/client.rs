//! Single requests. Redirects are followed here, not in the HTTP library: the token must stay with the server it is for.

use ureq::http::{HeaderMap, Request, header};
use ureq::{Agent, Body};

use super::{Address, Failure, Patience, Token};

const MOST_REDIRECTS: usize = 10;

/// Makes requests of one server, and of those that it redirects to.
pub(crate) struct Client {
    agent: Agent,
    /// The server that the token is for.
    home: Address,
    token: Option<Token>,
}

/// Which redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// All.
    Everywhere,
    /// Those within the server; what leads away from it is the answer.
    AtHome,
}

/// An answer, its body not read yet.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Body,
}

impl Answer {
    /// A header whose text is ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `Location` of a redirect.
    fn location(&self) -> Option<&str> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then(|| self.header("location"))?
    }

    /// This answer, if it is what was asked for.
    ///
    /// # Errors
    /// [`Failure::Status`] for any but `expected`.
    pub(crate) fn expect(self, expected: impl Fn(u16) -> bool) -> Result<Self, Failure> {
        if expected(self.status) {
            return Ok(self);
        }
        let seconds = self.header("retry-after").and_then(|text| text.trim().parse().ok());
        Err(Failure::Status {
            code: self.status,
            error_code: self.header("x-error-code").map(str::to_owned),
            retry_after: seconds.map(std::time::Duration::from_secs),
        })
    }
}

impl Client {
    pub(crate) fn new(home: Address, token: Option<Token>, patience: &Patience) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("autofocusformer/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.response))
            .timeout_recv_response(Some(patience.response))
            .timeout_per_read(Some(patience.stall))
            .build();
        Self { agent: Agent::new_with_config(config), home, token }
    }

    pub(crate) fn home(&self) -> &Address {
        &self.home
    }

    /// What is said about an address.
    pub(crate) fn head(&self, address: &Address, redirects: Redirects) -> Result<Answer, Failure> {
        self.send("HEAD", address, &[], redirects)
    }

    /// What is at an address.
    pub(crate) fn get(&self, address: &Address, headers: &[(&str, String)]) -> Result<Answer, Failure> {
        self.send("GET", address, headers, Redirects::Everywhere)
    }

    fn send(
        &self,
        method: &str,
        address: &Address,
        headers: &[(&str, String)],
        redirects: Redirects,
    ) -> Result<Answer, Failure> {
        let mut address = address.clone();
        let mut is_home = true;
        for _ in 0..=MOST_REDIRECTS {
            // Once led away, a request does not come home: another server must not choose what is asked with the token.
            is_home &= self.home.is_same_origin(&address);
            let token = self.token.as_ref().filter(|_| is_home);
            let answer = self.exchange(method, &address, headers, token)?;
            let Some(location) = answer.location() else { return Ok(answer) };
            let next = address
                .join(location)
                .map_err(|problem| Failure::Invalid(format!("{} redirects to {problem}", address.host())))?;
            refuse_downgrade(&address, &next)?;
            if redirects == Redirects::AtHome && !self.home.is_same_origin(&next) {
                return Ok(answer);
            }
            address = next;
        }
        Err(Failure::Invalid(format!("{} redirects more than {MOST_REDIRECTS} times", self.home.host())))
    }

    fn exchange(
        &self,
        method: &str,
        address: &Address,
        headers: &[(&str, String)],
        token: Option<&Token>,
    ) -> Result<Answer, Failure> {
        // Sizes and digests are of the file itself, not of a compressed form.
        let mut request = Request::builder()
            .method(method)
            .uri(address.uri().clone())
            .header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        // Of all that a request is made of, only the token was not checked before.
        let request = request
            .body(())
            .map_err(|_| Failure::Invalid("the token has characters that no token has".to_owned()))?;
        let (parts, body) = self.agent.run(request)?.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// What was asked for over https must not come over http, where anyone on the way could alter it.
fn refuse_downgrade(from: &Address, to: &Address) -> Result<(), Failure> {
    if !from.is_secure() || to.is_secure() || to.is_loopback() {
        return Ok(());
    }
    Err(Failure::Invalid(format!("{} redirects from https to http ({})", from.host(), to.host())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_does_not_become_http() {
        let check = |from: &str, to: &str| {
            refuse_downgrade(&Address::parse(from).unwrap(), &Address::parse(to).unwrap())
        };
        assert!(check("https://hub/x", "http://hub/x").is_err());
        assert!(check("https://hub/x", "http://127.0.0.1.example/x").is_err());
        for (from, to) in [
            ("https://a", "https://b"),
            ("http://a", "http://b"),
            ("http://a", "https://b"),
            ("https://a", "http://127.0.0.1:9"),
        ] {
            assert!(check(from, to).is_ok(), "{from} {to}");
        }
    }
}
