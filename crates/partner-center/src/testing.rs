//! A server that answers what a test tells it to, byte for byte, and keeps what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use url::Url;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// `GET /v1/customers?size=500`
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn is_token(&self) -> bool {
        self.line.starts_with("POST ")
    }
}

#[derive(Clone)]
pub(super) enum Say {
    /// Status, headers, body; the connection stays open.
    This(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, then hang up.
    Cut(Vec<u8>),
    /// These bytes, then the others for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, and hold the line.
    Hang,
    /// Something, once there is a permit.
    When(Arc<Semaphore>, Box<Say>),
}

impl Say {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::This(status, vec![("content-type", "application/json".into())], body.into())
    }

    pub(super) fn token(token: &str) -> Self {
        let body = format!(r#"{{"token_type":"Bearer","expires_in":"3600","access_token":"{token}"}}"#);
        Self::json(200, &body)
    }
}

pub(super) struct Server {
    pub(super) url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` sees each request, and how many of its kind (questions, token requests) came before it.
    pub(super) async fn start(answer: impl Fn(&Asked, usize) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, all) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                let decide = move |asked: Asked| {
                    let mut all = all.lock().unwrap();
                    let before = all.iter().filter(|other| other.is_token() == asked.is_token()).count();
                    let say = answer(&asked, before);
                    all.push(asked);
                    say
                };
                tokio::spawn(async move { serve(stream, decide).await });
            }
        });
        Self { url, asked }
    }

    pub(super) fn questions(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| !asked.is_token()).cloned().collect()
    }

    pub(super) fn token_requests(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.is_token()).cloned().collect()
    }
}

/// `None` when the connection is over.
async fn serve(mut stream: TcpStream, decide: impl Fn(Asked) -> Say) -> Option<()> {
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
        let mut asked = Asked { line, headers: headers.collect(), body: String::new() };
        let length: usize = asked.header("content-length").parse().unwrap_or(0);
        while read.len() < length {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        asked.body = String::from_utf8(read.drain(..length).collect()).unwrap();
        let mut say = decide(asked);
        while let Say::When(permits, then) = say {
            permits.acquire().await.unwrap().forget();
            say = *then;
        }
        match say {
            Say::This(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
                for (key, value) in headers {
                    head += &[key, ": ", &value, "\r\n"].concat();
                }
                stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).await.ok()?;
            }
            Say::Cut(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Say::Endless(head, again) => {
                stream.write_all(&head).await.ok()?;
                loop {
                    stream.write_all(&again).await.ok()?;
                }
            }
            Say::Hang => std::future::pending().await,
            Say::When(..) => unreachable!("unwrapped above"),
        }
    }
}
