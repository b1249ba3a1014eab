//! `vetwatch backup`: a verified copy of the database, made while the daemon runs or not.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use serde_json::Value;

use crate::cli::context::{lock, reading_path};
use crate::cli::{Context, Exit, Failure, privileges};
use crate::instance_lock;
use crate::store::backup::{self, Purpose, check_room, claim, directory_of, failed, sync_directory};
use crate::store::{Error, copy, sibling_path};
use crate::text;
use crate::time::Timestamp;

#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write; a backup of this name is replaced
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// For people who analyse it: without raw answers, messages and contacts, and readable by everyone
    #[arg(long)]
    pub for_readers: bool,
}

pub(super) async fn backup(context: &Context, args: BackupArgs) -> Result<Exit, Failure> {
    let database = context.outline()?.database;
    // Before the change of user: the directory may be root's.
    let target = backup::check_target(&database, &args.file)?;
    let written = match privileges::other_owner(&database)? {
        Some(owner) if directory_of(&target).metadata().is_ok_and(|directory| directory.uid() != owner) => {
            by_root(context, &database, &target, args.for_readers, owner)?
        }
        _ => {
            // Creates nothing, and waits for no writer.
            reading_path(&database)?;
            let purpose = if args.for_readers { Purpose::Readers } else { Purpose::Restore };
            let backup = backup::write(&database, &target, purpose, || true).await?;
            let mut written = serde_json::to_value(&backup)
                .map_err(|error| Failure::new(Exit::Failed, "cannot show the backup").because(error.to_string()))?;
            written["until"] = serde_json::json!(backup.contents.until());
            written
        }
    };
    if context.json {
        context.out.json(&written)?;
        return Ok(Exit::Done);
    }
    let number = |key: &str| written[key].as_f64().unwrap_or_default();
    let file = text::terminal(written["file"].as_str().unwrap_or_default()).into_owned();
    context.out.write(&format!(
        "wrote {file}: {:.1} MB, checked, in {:.1} s\n{} transitions, {} messages pending\n{}",
        number("bytes") / 1e6,
        number("seconds"),
        written["transitions"],
        written["pending"],
        if args.for_readers {
            "It is for readers: raw answers, messages and contacts are left out, and it cannot be restored.\n"
        } else {
            "`vetwatch restore` puts it back.\n"
        }
    ))?;
    Ok(Exit::Done)
}

/// For a directory that the database's owner may not write to: a process of that user's makes the copy beside the
/// database, and root, which does not open the database, copies the finished file.
fn by_root(context: &Context, database: &Path, target: &Path, for_readers: bool, owner: u32) -> Result<Value, Failure> {
    // Always the same name: what an interrupted one left is replaced by the next.
    let made = sibling_path(database, ".backup");
    let program = std::env::current_exe().map_err(failed("find the program", Path::new("/proc/self/exe")))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&context.config_path).args(["--json", "backup"]).arg(&made);
    if for_readers {
        command.arg("--for-readers");
    }
    let output = command.output().map_err(failed("run the program for", &made))?;
    if !output.status.success() {
        return Err(failure_of(output.status.code(), &output.stderr));
    }
    let copied = take_over(&made, target, for_readers, owner);
    let _ = std::fs::remove_file(&made);
    copied?;
    let mut written: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    written["file"] = target.display().to_string().into();
    Ok(written)
}

/// Copies a finished backup to a directory of root's.
fn take_over(made: &Path, target: &Path, for_readers: bool, owner: u32) -> Result<(), Error> {
    // The directory belongs to the other user, who must not lead root to another file.
    let mut source = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(made);
    let source = source.as_mut().map_err(|error| failed("read", made)(io::Error::from(error.kind())))?;
    let found = source.metadata().map_err(failed("read", made))?;
    if !found.is_file() || found.uid() != owner {
        return Err(Error::Target { path: target.to_owned(), why: "the copy was exchanged meanwhile".to_owned() });
    }
    let directory = directory_of(target);
    check_room(directory, found.len())?;
    let partial = copy::partial(target);
    let mut file = claim(&partial)?;
    let copied = (|| {
        io::copy(source, &mut file).map_err(failed("write", &partial))?;
        let permissions = Permissions::from_mode(if for_readers { 0o644 } else { 0o640 });
        file.set_permissions(permissions).map_err(failed("set the mode of", &partial))?;
        // Not every file system has owners.
        let _ = fchown(&file, Some(found.uid()), Some(found.gid()));
        file.sync_all().map_err(failed("write", &partial))?;
        std::fs::rename(&partial, target).map_err(failed("rename the copy to", target))?;
        sync_directory(directory)
    })();
    if copied.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

/// The failure that the other process printed.
fn failure_of(code: Option<i32>, stderr: &[u8]) -> Failure {
    let exit = match code {
        Some(4) => Exit::NotFound,
        Some(75) => Exit::TryAgain,
        Some(78) => Exit::Configuration,
        _ => Exit::Failed,
    };
    let stderr = String::from_utf8_lossy(stderr);
    let last: Value = stderr.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let message = last["error"]["message"].as_str().unwrap_or("the database cannot be copied").to_owned();
    let failure = Failure::new(exit, message);
    match last["error"]["advice"].as_str() {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// A file that `vetwatch backup` or the nightly backup wrote
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

pub(super) async fn restore(context: &Context, args: RestoreArgs) -> Result<Exit, Failure> {
    let database = context.outline()?.database;
    // Before the change of user: the backup may be root's.
    let source = crate::backup::restore::Source::open(&args.file, &database)?;
    privileges::become_owner_of(&database)?;
    let is_there = database.exists();
    let lock = lock(&database)?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("{} cannot be restored", args.file.display()))
            .because("vetwatch runs, or another command of it works on the database")
            .advise("stop it first: `systemctl stop vetwatch`")
    })?;
    let restored = crate::backup::restore::restore(source, &database, context.now(), &lock).await;
    let restored = restored.map_err(|error| {
        if !is_there && database.metadata().is_ok_and(|file| file.len() == 0) {
            // The lock made it. An empty database would say that there is one.
            let _ = std::fs::remove_file(&database);
            let _ = std::fs::remove_file(instance_lock::path(&database));
        }
        refusal(error, &database)
    })?;
    let until = restored.contents.until();
    if context.json {
        let mut shown = serde_json::to_value(&restored)
            .map_err(|error| Failure::new(Exit::Failed, "cannot show the result").because(error.to_string()))?;
        shown["until"] = serde_json::json!(until);
        context.out.json(&shown)?;
        return Ok(Exit::Done);
    }
    let kept = restored.kept.as_ref().map(|kept| format!("The old one is kept as {}.\n", kept.display()));
    let until = until.map_or_else(|| "an unknown time".to_owned(), |until: Timestamp| until.to_string());
    let said = text::terminal_lines(&format!(
        "restored {} from {}: {} transitions, {} messages pending, as of {until}\n{}\
         What happened since is found again and sent again, what has a date under the id that it had.\nNow start vetwatch: systemctl start vetwatch",
        restored.database.display(),
        args.file.display(),
        restored.contents.transitions,
        restored.contents.pending,
        kept.unwrap_or_default(),
    ));
    context.out.write(&format!("{said}\n"))?;
    Ok(Exit::Done)
}

fn refusal(error: Error, database: &Path) -> Failure {
    let is_backup_bad = matches!(
        &error,
        Error::NotADatabase { path } | Error::Unsound { path, .. } | Error::NotVetwatch { path } | Error::ForReaders { path } if path != database
    );
    let failure = Failure::from(error);
    if !is_backup_bad {
        return failure;
    }
    let why = failure.why.clone().unwrap_or(failure.what);
    Failure::new(failure.exit, "nothing was restored")
        .because(why)
        .advise("restore another backup; the database is as it was")
}
