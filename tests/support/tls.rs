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
}

/// An HTTPS server on loopback that gives the same answer to everyone.
pub struct Tls {
    port: u16,
    /// The authority that vouches for it, as PEM.
    pub authority: String,
}

impl Tls {
    pub fn serve(flaw: Flaw, answer: String) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let host = match flaw {
            Flaw::WrongHost => "elsewhere.example",
            _ => "localhost",
        };
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        if flaw == Flaw::Expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || accept(&listener, &Arc::new(config), &answer));
        Tls {
            port,
            authority: authority.pem(),
        }
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
