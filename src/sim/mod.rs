//! The simulator: an OpenAI-shaped endpoint on loopback, with limits, latency and seeded faults.
//!
//! It serves first steps without a key, rehearsals of a run, and the tests of the whole program.
//! It promises that the same seed and the same request bodies bring the same faults, and that an
//! answer depends on its question alone. It charges as the harshest provider would, and its books
//! are exact, so that a client's sums can be held against them. It must not know any codec of ours: a mock that shares
//! our code shares our misunderstandings.

mod answer;
mod chance;
mod connection;
mod endpoint;
mod faults;
mod ledger;
mod limits;
mod price;
mod question;
mod refusal;
mod reply;
mod settings;
mod span;
mod stats;
mod tries;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub use answer::echo_tag;
pub use faults::{Fault, Faults};
pub use price::{PicoDollars, Price, Prices};
pub use settings::{SimSettings, SpecError};
pub use stats::{Counts, Stats};

use endpoint::Endpoint;

/// How long to let things settle when the system has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A bound endpoint, which answers as soon as [`Simulator::serve`] is polled.
pub struct Simulator {
    listener: TcpListener,
    address: SocketAddr,
    endpoint: Arc<Endpoint>,
}

impl Simulator {
    /// Listens on this port of 127.0.0.1; port 0 takes a free one.
    pub async fn bind(port: u16, settings: SimSettings) -> io::Result<Simulator> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(Simulator {
            address: listener.local_addr()?,
            listener,
            endpoint: Arc::new(Endpoint::new(settings)),
        })
    }

    /// Returns where it listens; the base URL of the endpoint is `http://ADDRESS/v1`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the counters, which stay readable after the simulator is gone.
    pub fn stats(&self) -> Arc<Stats> {
        self.endpoint.stats()
    }

    /// Answers until this future is dropped, which ends every connection with it.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.welcome(stream, &mut connections),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn welcome(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        // Without it, an answer could wait for the client's delayed acknowledgement. A socket that
        // refuses the option is already broken, and the connection will find out.
        let _ = stream.set_nodelay(true);
        self.endpoint.stats().connection();
        connections.spawn(connection::attend(stream, Arc::clone(&self.endpoint)));
    }
}
