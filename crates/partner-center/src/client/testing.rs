//! A server that returns scripted bytes and records the requests.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use url::Url;

/// A request as received.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// `GET /v1/customers?size=500`
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn is_token(&self) -> bool {
        self.line.starts_with("POST ")
    }
}

/// A scripted response.
#[derive(Clone)]
pub(super) enum Reply {
    /// Status, headers, body; the connection stays open.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, then the connection closes.
    Cut(Vec<u8>),
    /// The first bytes, then the second ones repeated without end.
    Endless(Vec<u8>, Vec<u8>),
    /// No response on an open connection.
    Hang,
    /// A response, once there is a permit.
    When(Arc<Semaphore>, Box<Reply>),
}

impl Reply {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::Full(status, vec![("content-type", "application/json".into())], body.into())
    }

    pub(super) fn token(token: &str) -> Self {
        let body = format!(r#"{{"token_type":"Bearer","expires_in":"3600","access_token":"{token}"}}"#);
        Self::json(200, &body)
    }
}

pub(super) struct Server {
    pub(super) url: Url,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets each request and the number of earlier ones of its kind (polls, token requests).
    pub(super) async fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, all) = (Arc::new(answer), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                let decide = move |request: Request| {
                    let mut all = all.lock().unwrap();
                    let before = all.iter().filter(|other| other.is_token() == request.is_token()).count();
                    let scripted = answer(&request, before);
                    all.push(request);
                    scripted
                };
                tokio::spawn(async move { serve(stream, decide).await });
            }
        });
        Self { url, requests }
    }

    pub(super) fn polls(&self) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|request| !request.is_token()).cloned().collect()
    }

    pub(super) fn token_requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|request| request.is_token()).cloned().collect()
    }
}

/// Returns `None` at the end of the connection.
async fn serve(mut stream: TcpStream, decide: impl Fn(Request) -> Reply) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let headers = lines.map(|line| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap());
        let mut request = Request { line, headers: headers.collect(), body: String::new() };
        let length: usize = request.header("content-length").parse().unwrap_or(0);
        while read.len() < length {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        request.body = String::from_utf8(read.drain(..length).collect()).unwrap();
        let mut scripted = decide(request);
        while let Reply::When(permits, then) = scripted {
            permits.acquire().await.unwrap().forget();
            scripted = *then;
        }
        match scripted {
            Reply::Full(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
                for (key, value) in headers {
                    head += &[key, ": ", &value, "\r\n"].concat();
                }
                stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).await.ok()?;
            }
            Reply::Cut(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Reply::Endless(head, again) => {
                stream.write_all(&head).await.ok()?;
                loop {
                    stream.write_all(&again).await.ok()?;
                }
            }
            Reply::Hang => std::future::pending().await,
            Reply::When(..) => unreachable!("unwrapped above"),
        }
    }
}
