//! What stands around vetwatch where instants are measured: a relay before the sandbox, and a receiver of webhooks. They
//! write to the standard output, with the nanoseconds of the monotonic clock:
//!
//! - `answered NANOSECONDS CUSTOMER` for a customer's first answer that shows an approval, right before it is handed over;
//! - `hook NANOSECONDS CUSTOMER ID` for a webhook about a customer, once it was read to its end.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn nanoseconds() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}

/// Returns the port.
pub(crate) async fn relay(sandbox: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (port, seen) = (listener.local_addr()?.port(), Arc::default());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A killed peer resets its connections.
            tokio::spawn(pass(client, sandbox, Arc::clone(&seen)));
        }
    });
    Ok(port)
}

async fn pass(mut client: TcpStream, sandbox: u16, seen: Arc<Mutex<HashSet<String>>>) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", sandbox)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut request, mut answer, mut customer) = (vec![0; 65536], vec![0; 65536], None);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let request = &request[..read?];
                if request.is_empty() {
                    return Ok(());
                }
                customer = polled(request);
                server.write_all(request).await?;
            }
            read = server.read(&mut answer) => {
                let answer = &answer[..read?];
                if answer.is_empty() {
                    return Ok(());
                }
                if let Some(customer) = &customer && answer.windows(10).any(|part| part == b"\"Approved\"") {
                    let is_first = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(String::clone(customer));
                    if is_first {
                        println!("answered {} {customer}", nanoseconds());
                    }
                }
                client.write_all(answer).await?;
            }
        }
    }
}

/// The customer whose qualifications a request is for.
fn polled(request: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(request.split(|byte| *byte == b'\r').next()?).ok()?;
    let (customer, _) = line.strip_prefix("GET /v1/customers/")?.split_once("/qualifications ")?;
    Some(customer.to_owned())
}

/// Returns the port.
pub(crate) async fn receiver() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr().context("a receiver has a port")?.port();
    let server = axum::serve(listener, Router::new().route("/hook", post(take)));
    tokio::spawn(async move { server.await });
    Ok(port)
}

async fn take(headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = nanoseconds();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    // Some are about no customer.
    if let Some(customer) = said.pointer("/data/customer/id").and_then(Value::as_str) {
        let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        println!("hook {at} {customer} {id}");
    }
    StatusCode::NO_CONTENT
}
