//! A server behind TLS, with certificates made for the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What may be wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    WrongHost,
    /// It names no host at all, as those of old did.
    Nameless,
    /// It is an authority's own, as `openssl req -x509` makes them.
    Authority,
    /// The authority has the right name and another key.
    OtherKey,
}

/// An HTTPS server on loopback that gives the same answer to everyone.
pub struct Tls {
    port: u16,
    /// The authority that vouches for it, as PEM.
    pub authority: String,
}

impl Tls {
    pub fn serve(flaw: Flaw, answer: String) -> Self {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            || CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
        let authority = issuer();
        let hosts = match flaw {
            Flaw::WrongHost => vec!["elsewhere.example".to_owned(), "10.0.0.1".to_owned()],
            Flaw::Nameless => Vec::new(),
            _ => vec!["localhost".to_owned()],
        };
        let mut params = CertificateParams::new(hosts).unwrap();
        if flaw == Flaw::Expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let (certificate, key) = match flaw {
            Flaw::Authority => (authority.der().clone(), authority.key().serialize_der()),
            _ => {
                let certificate = params.signed_by(&key, &authority).unwrap();
                (certificate.der().clone(), key.serialize_der())
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || accept(&listener, &Arc::new(config), &answer));
        let authority = match flaw {
            Flaw::OtherKey => issuer().pem(),
            _ => authority.pem(),
        };
        Tls { port, authority }
    }

    pub fn base_url(&self) -> String {
        format!("https://localhost:{}/v1", self.port)
    }
}

/// Serves one connection after the other; a client that breaks off is no concern of the server's.
fn accept(listener: &TcpListener, config: &Arc<ServerConfig>, answer: &str) {
    for stream in listener.incoming() {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let stream = StreamOwned::new(connection, stream.unwrap());
        let _ = attend(stream, answer);
    }
}

fn attend(stream: impl Read + Write, answer: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    reader.get_mut().write_all(answer.as_bytes())?;
    reader.get_mut().flush()
}
