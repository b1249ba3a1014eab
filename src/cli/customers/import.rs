//! `vetwatch customers import`: adds the customers of a CSV file, all or none.

mod table;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use self::table::{Problem, Table};
use crate::cli::{Context, Exit, Failure, lookup};
use crate::delivery::email::address::Contact;
use crate::store::customers::{Imported, ImportedCustomer};
use crate::text;

/// Customers per statement.
const ROWS_PER_STATEMENT: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A CSV file in UTF-8; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The partner of the configuration; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

pub(super) async fn import(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let partner = lookup::configured_partner(&outline.partners, args.partner.as_deref())?;
    // Opened before root's rights are dropped: the file may be the administrator's own.
    let mut file = open(&args.file).map_err(|error| unreadable(&args.file, &error))?;
    // Read twice, so that wrong lines are reported before the database is touched, and only a few rows are in memory.
    let Checked { rows, contacts } = check(&args.file, &file)?;
    file.rewind().map_err(|error| unreadable(&args.file, &error))?;
    let imported = if args.dry_run && !outline.database.try_exists().unwrap_or(true) {
        Imported { added: rows, ..Imported::default() }
    } else {
        write(context, &outline.database, partner, args, &file).await?
    };
    if context.json {
        let mut result = json!(imported);
        result["partner"] = json!(partner);
        result["dry_run"] = json!(args.dry_run);
        result["unusable_contacts"] = json!(contacts);
        context.out.json(&result)?;
    } else {
        context.out.line(&summary(partner, imported, args.dry_run))?;
        report_contacts(&contacts);
    }
    Ok(Exit::Done)
}

/// Opens the file so that it can be read twice: standard input and pipes are copied to an unnamed file.
fn open(path: &Path) -> io::Result<File> {
    let spool = |input: &mut dyn io::Read| {
        let mut file = tempfile::tempfile()?;
        io::copy(input, &mut file)?;
        file.rewind()?;
        Ok(file)
    };
    if path == Path::new("-") {
        return spool(&mut io::stdin().lock());
    }
    let mut file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { spool(&mut file) }
}

/// The result of the first reading.
struct Checked {
    rows: u64,
    contacts: Vec<UnusableContact>,
}

/// A contact, or a part of one, to which no mail can be sent. The customer is imported all the same: it may be a name for
/// people.
#[derive(Debug, Serialize)]
struct UnusableContact {
    line: u64,
    contact: String,
    problem: String,
}

/// Counts the rows, and finds the contacts that are no addresses.
///
/// # Errors
/// If lines are wrong; lists all of them.
fn check(path: &Path, file: &File) -> Result<Checked, Failure> {
    let mut lines: HashMap<Uuid, u64> = HashMap::new();
    let mut wrong = Vec::new();
    let (mut rows, mut contacts) = (0, Vec::new());
    let mut report = |problem| match problem {
        Problem::Line { line, why } => {
            wrong.push(format!("line {line}: {why}"));
            Ok(())
        }
        Problem::Io(error) => Err(unreadable(path, &error)),
    };
    match Table::open(file) {
        Err(problem) => report(problem)?,
        Ok(mut table) => loop {
            match table.next() {
                Ok(None) => break,
                Ok(Some(row)) => {
                    rows += 1;
                    let contact = row.customer.contact.as_deref().map(Contact::parse).unwrap_or_default();
                    contacts.extend(contact.unusable.into_iter().map(|(contact, problem)| UnusableContact {
                        line: row.line,
                        contact,
                        problem: problem.to_string(),
                    }));
                    if let Some(earlier) = lines.get(&row.guid) {
                        let why = format!("the same id as in line {earlier}");
                        report(Problem::Line { line: row.line, why })?;
                    } else {
                        lines.insert(row.guid, row.line);
                    }
                }
                Err(problem) => report(problem)?,
            }
        },
    }
    if wrong.is_empty() {
        return Ok(Checked { rows, contacts });
    }
    let what = match wrong.len() {
        1 => format!("nothing was imported: {} has a line that is wrong", name(path)),
        n => format!("nothing was imported: {} has {n} lines that are wrong", name(path)),
    };
    Err(Failure::new(Exit::Failed, what).listing(wrong).advise("see `vetwatch customers import --help`"))
}

/// Writes all rows in one transaction, which a dry run rolls back.
async fn write(
    context: &Context,
    database: &Path,
    partner: &str,
    args: &Args,
    file: &File,
) -> Result<Imported, Failure> {
    let changed = |_| {
        let what = format!("nothing was imported: {} was changed while it was read", name(&args.file));
        Failure::new(Exit::TryAgain, what).advise("try again once nobody writes to it")
    };
    let store = context.store(database).await?;
    let mut table = Table::open(file).map_err(changed)?;
    let (mut imported, now) = (Imported::default(), context.now());
    let mut tx = store.begin().await?;
    loop {
        let mut customers: Vec<ImportedCustomer> = Vec::with_capacity(ROWS_PER_STATEMENT);
        while customers.len() < ROWS_PER_STATEMENT
            && let Some(row) = table.next().map_err(changed)?
        {
            customers.push(row.customer);
        }
        if customers.is_empty() {
            break;
        }
        tx.import_customers(partner, &customers, now, &mut imported).await?;
    }
    if !args.dry_run {
        tx.commit().await?;
    }
    Ok(imported)
}

/// Names the contacts that get no mail, on standard error: the import has succeeded.
fn report_contacts(contacts: &[UnusableContact]) {
    const MAX_SHOWN: usize = 20;
    let shown = contacts.iter().take(MAX_SHOWN).map(|UnusableContact { line, contact, problem }| {
        format!("line {line}: contact: \"{}\" {problem}; it is stored, and gets no mail\n", text::terminal(contact))
    });
    let mut notes: String = shown.collect();
    if contacts.len() > MAX_SHOWN {
        let more = contacts.len() - MAX_SHOWN;
        let more = format!("and {more} more contacts that get no mail; --json lists them all\n");
        notes.push_str(&more);
    }
    let _ = io::stderr().write_all(notes.as_bytes()); // as other errors about errors
}

fn summary(partner: &str, imported: Imported, dry_run: bool) -> String {
    let Imported { added, returned, updated, unchanged } = imported;
    let again = match returned {
        0 => String::new(),
        n => format!(" ({n} of them had been removed before, and are watched anew)"),
    };
    if dry_run {
        return format!(
            "{partner}: {added} customers would be added{again}, {updated} updated, {unchanged} left as they are. \
             Nothing was changed."
        );
    }
    format!("{partner}: {added} customers added{again}, {updated} updated, {unchanged} left as they were.")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("nothing was imported: {} cannot be read", name(path)))
        .because(error.to_string())
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}
