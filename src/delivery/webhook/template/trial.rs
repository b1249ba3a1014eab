//! Tries a template in a process of its own, with little memory. The engine counts a template's steps, not its memory, and
//! `a ~ a` forty times would take all that there is; memory that cannot be had ends a process.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::resource::{Resource, setrlimit};
use reqwest::header::HeaderValue;
use secrecy::SecretString;

use super::{Template, TemplateError};

/// The argument with which the program is such a process.
pub const ARGUMENT: &str = "try-template";
/// Of address space, the program's own included.
const MEMORY: u64 = 512 << 20;
const SECONDS: u64 = 10;

/// This program understands [`ARGUMENT`]; that of a unit test does not.
static OFFERED: AtomicBool = AtomicBool::new(false);

/// Says that this program calls [`run`] if its argument is [`ARGUMENT`].
pub fn offer() {
    OFFERED.store(true, Ordering::Relaxed);
}

/// Why a template cannot be rendered at all, if so.
pub(super) fn fails(source: &str, content_type: &HeaderValue, with_secret: bool) -> Option<TemplateError> {
    if !OFFERED.load(Ordering::Relaxed) {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let mut command = Command::new(program);
    command.arg(ARGUMENT).arg(content_type.to_str().ok()?).arg(if with_secret { "secret" } else { "" });
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(source.as_bytes()));
    let status = child.wait().ok()?;
    let ended = written.is_err() || status.signal().is_some();
    ended.then(|| TemplateError {
        line: None,
        text: "it takes too much memory or time: does it double a text (`a ~ a`) or widen one (`'%1000000s'`)?"
            .to_owned(),
    })
}

/// The process's side: reads the template from standard input and renders the samples.
pub fn run(content_type: &str, with_secret: bool) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?;
    setrlimit(Resource::RLIMIT_CPU, SECONDS, SECONDS)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let mut source = String::new();
    io::stdin().lock().read_to_string(&mut source)?;
    let content_type = HeaderValue::from_str(content_type).map_err(io::Error::other)?;
    if let Ok(template) = Template::parse(source, content_type, with_secret.then(|| SecretString::from("secret"))) {
        drop(template.rendered_samples());
    }
    Ok(())
}
