//! A scripted mail server, for faults that a real one cannot produce.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;

/// A server that greets the first client and gives each line that comes the next answer, then falls silent. Ends
/// when the client does: what that said. `{line}` in an answer is what was asked, `{start}` the first 200 bytes of it; the answers go out in Latin-1.
pub(crate) async fn scripted(greeting: &str, answers: &[&str]) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (greeting, answers) =
        (greeting.to_owned(), Arc::new(answers.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answers: Vec<_> = answers.iter().map(String::as_str).collect();
        let mut stream = BufStream::new(stream);
        let mut said = answer_all(&mut stream, &greeting, &answers).await;
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            said.push(String::from_utf8_lossy(&std::mem::take(&mut line)).trim_end().to_owned());
        }
        said
    });
    (port, server)
}

/// The same, but the connection closes after the last reply.
pub(crate) async fn converse(stream: tokio::net::TcpStream, greeting: &str, answers: &[&str]) -> Vec<String> {
    answer_all(&mut BufStream::new(stream), greeting, answers).await
}

async fn answer_all(stream: &mut BufStream<tokio::net::TcpStream>, greeting: &str, answers: &[&str]) -> Vec<String> {
    let mut said = Vec::new();
    if !greeting.is_empty() {
        stream.write_all(format!("{greeting}\r\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut content = false;
    for answer in answers {
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return said;
            }
            if !content || line == ".\r\n" {
                break;
            }
        }
        said.push(line.trim_end().to_owned());
        content = answer.starts_with("354");
        let asked = line.trim_end();
        let answer = answer.replace("{line}", asked).replace("{start}", asked.get(..200).unwrap_or(asked));
        let latin1: Vec<u8> = answer.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).chain(*b"\r\n").collect();
        if stream.write_all(&latin1).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    said
}
