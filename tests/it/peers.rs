//! Real peers in Python (`tests/tools`), in the environment that `tests/run` makes at `.venv`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) fn tool(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `tests/run` once", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/tools").join(name));
    command
}

/// Runs a tool: its stdout, or its stderr as the error.
pub(crate) fn run(name: &str, argument: &Path, input: &Value) -> Result<Value, String> {
    let mut tool = tool(name);
    tool.arg(argument);
    finish(tool, input)
}

/// Runs a tool in an environment of its own.
pub(crate) fn run_in(name: &str, environment: &[(&str, String)], input: &Value) -> Result<Value, String> {
    let mut tool = tool(name);
    tool.env_clear().envs(environment.iter().map(|(key, value)| (key, value)));
    finish(tool, input)
}

fn finish(mut tool: Command, input: &Value) -> Result<Value, String> {
    let tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(serde_json::from_str(&printed).unwrap_or(Value::String(printed)))
    } else {
        Err(said)
    }
}

/// A mail as parsed by Python's own parser.
pub(crate) fn parse_mail(file: &Path) -> Value {
    run("check_mail.py", file, &Value::Null).unwrap()
}

/// An untrusted certificate authority, a certificate for localhost and crm.example, and a client's.
pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        run("make_certs.py", folder.path(), &Value::Null).unwrap();
        Self(folder)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.path().join("server.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.path().join("server.key")
    }

    /// An application's certificate and its key, which Entra ID demands to be RSA.
    pub(crate) fn application(&self) -> PathBuf {
        self.0.path().join("application.pem")
    }

    /// The certificate and its key.
    pub(crate) fn client(&self) -> PathBuf {
        self.0.path().join("client.pem")
    }
}

/// A running mail server; dropping it stops it.
pub(crate) struct MailServer {
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
    child: Child,
}

/// A received message.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) file: PathBuf,
    /// `from`, `to`, `tls`, `auth`, `connection`, `reply`.
    pub(crate) envelope: Value,
}

impl Received {
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    pub(crate) fn to(&self) -> Vec<String> {
        serde_json::from_value(self.envelope["to"].clone()).unwrap()
    }
}

impl MailServer {
    /// Without TLS or login; `script` is explained in `smtp_server.py`.
    pub(crate) fn plain(script: &Value) -> Self {
        Self::start(&["--script".to_owned(), script.to_string()])
    }

    /// `tls` is `starttls` or `implicit`; the login is `watch` with `pass word`.
    pub(crate) fn secured(tls: &str, certificates: &Certificates) -> Self {
        let path = |path: PathBuf| path.display().to_string();
        let (certificate, key) = (path(certificates.certificate()), path(certificates.key()));
        let options =
            ["--tls", tls, "--cert", &certificate, "--key", &key, "--user", "watch", "--password", "pass word"];
        Self::start(&options.map(str::to_owned))
    }

    /// As [`Self::secured`], with another of the certificates and without login.
    pub(crate) fn with_certificate(tls: &str, certificates: &Certificates, name: &str) -> Self {
        let path = |extension: &str| certificates.0.path().join(format!("{name}.{extension}")).display().to_string();
        let options = ["--tls", tls, "--cert", &path("pem"), "--key", &path("key")];
        Self::start(&options.map(str::to_owned))
    }

    /// With STARTTLS if there are certificates; the login is a token. `good` is explained in `smtp_server.py`.
    pub(crate) fn with_tokens(good: &Path, certificates: Option<&Certificates>) -> Self {
        let path = |path: &Path| path.display().to_string();
        let mut options = vec!["--xoauth2".to_owned(), path(good)];
        if let Some(files) = certificates {
            let (certificate, key) = (path(&files.certificate()), path(&files.key()));
            options.extend(["--tls", "starttls", "--cert", &certificate, "--key", &key].map(str::to_owned));
        }
        Self::start(&options)
    }

    fn start(options: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = tool("smtp_server.py");
        let server =
            server.arg("--folder").arg(folder.path()).args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = server.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: BTreeMap<String, u16> = serde_json::from_str(&line).expect("the mail server says its port");
        Self { port: said["port"], folder, child }
    }

    /// The messages received completely so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        let mut files: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        let read = |file: PathBuf| Received {
            envelope: serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap(),
            file: file.with_extension("eml"),
        };
        files.into_iter().map(read).collect()
    }

    /// The only received message.
    pub(crate) fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // this stops it
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Verifies a webhook with the library `standardwebhooks`: its parsed body, or the error.
pub(crate) fn verify_webhook(secret: &str, headers: &BTreeMap<String, String>, body: &str) -> Result<Value, String> {
    run("verify_webhook.py", Path::new("-"), &json!({ "secret": secret, "headers": headers, "body": body }))
}
