//! One client connection: HTTP/1.1 over a socket that can be made to break off rudely.
//!
//! It knows nothing of routes or faults; it only offers the switch that turns the end of the
//! connection into a reset.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::endpoint::Endpoint;

/// Serves this connection until the client leaves or a fault ends it.
pub(super) async fn attend(stream: TcpStream, endpoint: Arc<Endpoint>) {
    let switch = ResetSwitch::default();
    let line = Line {
        stream,
        switch: switch.clone(),
    };
    let service = service_fn(move |request| {
        let endpoint = Arc::clone(&endpoint);
        let switch = switch.clone();
        async move { endpoint.handle(request, &switch).await }
    });
    // Errors are the faults we play ourselves, or a client that left: no one is there to be told.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(line), service)
        .await;
}

/// Decides how a connection ends: in order, or by a reset.
#[derive(Clone, Default)]
pub(super) struct ResetSwitch(Arc<AtomicBool>);

impl ResetSwitch {
    /// Makes the connection end by a TCP RST as soon as it is closed.
    pub(super) fn throw(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn thrown(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that resets instead of closing once its switch is thrown.
struct Line {
    stream: TcpStream,
    switch: ResetSwitch,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.switch.thrown() {
            // Closing with a linger of zero drops what is unsent and sends RST in place of FIN.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
