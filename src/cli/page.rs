//! `vetwatch page`: the page as static files, or one customer's alone.

use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};

use crate::cli::lookup::{self, Scope};
use crate::cli::{Context, Exit, Failure};
use crate::forecast::Forecasts;
use crate::overview::{self, InReview, Seen};
use crate::report::{self, Asked};
use crate::store::{CustomerId, Store};
use crate::text;
use crate::web::render::{STYLE, render};
use crate::web::{OneCustomer, REPORTED, ROWS};

/// In a folder that this command wrote, and may replace.
const MARK: &str = ".vetwatch-page";
/// Steps of a customer's history.
const STEPS: usize = 25;
const STEPS_ALONE: usize = 200;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write; one that this command wrote before is replaced
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Only this customer, to send to it or to its reseller: a tenant id, a domain or a name
    #[arg(long)]
    pub customer: Option<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME", requires = "customer")]
    pub partner: Option<String>,
}

/// Files by their paths below the folder.
type Files = Vec<(PathBuf, String)>;

pub(super) async fn page(context: &Context, args: &Args) -> Result<Exit, Failure> {
    may_be_replaced(&args.dir).map_err(|error| unwritten(&args.dir, &error))?;
    let outline = context.outline()?;
    let store = context.reading_snapshot(&outline.database).await?;
    let now = context.now();
    let forecasts = Forecasts::read(&store, &outline.calendar, now).await?;
    let files = if args.customer.is_some() {
        let partner = args.partner.as_deref();
        lookup::partner(&outline.partners, &store, partner).await?;
        let found = lookup::customers(&store, args.customer.as_slice(), partner, Scope::Watched).await?;
        let rows: Vec<_> = found.into_iter().flat_map(|customer| customer.rows).collect();
        alone(&store, &forecasts, &rows).await?
    } else {
        let health = overview::health(&outline, &store, Seen::by_command(&store).await, now, None).await?;
        everything(&store, &forecasts, &health).await?
    };
    write(&args.dir, &files).map_err(|error| unwritten(&args.dir, &error))?;
    let index = args.dir.join("index.html");
    if context.json {
        context.out.json(&json!({ "index": index, "files": files.len() }))?;
    } else {
        context.out.write(&format!("wrote {}\n", text::terminal(&index.display().to_string())))?;
    }
    Ok(Exit::Done)
}

/// What the frame needs, beside the title.
fn frame(pages: &[&str], depth: usize, sentence: Option<(String, bool)>, forecasts: &Forecasts) -> Value {
    let (sentence, well) = sentence.unzip();
    json!({
        "pages": pages, "root": "../".repeat(depth), "is_file": true, "feeds": false, "refreshes": false, "query": "",
        "refresh": null, "style": null, "sentence": sentence, "well": well, "now": forecasts.now, "zone": forecasts.calendar.zone.name(),
    })
}

fn rendered(name: &str, page: &str, title: &str, objects: [Value; 2]) -> Result<String, Failure> {
    let [values, frame] = objects;
    let titles = json!({ "title": text::line(title, 120), "page": page });
    render(name, &[values, frame, titles])
        .map_err(|why| Failure::new(Exit::Failed, "cannot write the page").because(why))
}

async fn alone(store: &Store, forecasts: &Forecasts, rows: &[CustomerId]) -> Result<Files, Failure> {
    let one = OneCustomer::read(store, forecasts, rows, None, STEPS_ALONE).await?;
    let title = one.name.clone();
    let html = rendered("customer.html", "", &title, [one.values(None, true), frame(&[], 0, None, forecasts)])?;
    Ok(vec![("index.html".into(), html), ("style.css".into(), STYLE.to_owned())])
}

async fn everything(store: &Store, forecasts: &Forecasts, health: &overview::Health) -> Result<Files, Failure> {
    let limit = u32::try_from(ROWS).unwrap_or(u32::MAX);
    let (reviews, verdicts) = (store.reviews(None, None, limit).await?, store.verdicts(None, limit).await?);
    let pending = store.pending_verdicts(None).await?;
    let in_frame = |depth| {
        frame(&["decided", "report", "health"], depth, Some((health.sentence(), health.reasons.is_empty())), forecasts)
    };
    let mut customers: Vec<(String, String)> = Vec::new();
    customers.extend(reviews.iter().map(|it| (it.row.partner.clone(), it.row.customer_id.clone())));
    customers.extend(verdicts.iter().map(|it| (it.row.partner.clone(), it.row.customer_id.clone())));
    customers.extend(pending.iter().map(|row| (row.partner.clone(), row.customer_id.clone())));
    customers.extend(health.unreadable.iter().take(50).map(|row| (row.partner.clone(), row.customer_id.clone())));
    customers.sort();
    customers.dedup();

    let mut files: Files = vec![("style.css".into(), STYLE.to_owned())];
    let reviews: Vec<_> =
        reviews.into_iter().map(|it| InReview { expected: forecasts.of_row(&it.row), row: it.row }).collect();
    let values = json!({ "rows": reviews, "pending": pending, "next": null });
    files.push(("index.html".into(), rendered("index.html", "index", "In review", [values, in_frame(0)])?));
    let values = json!({ "rows": verdicts, "next": null });
    files.push(("decided.html".into(), rendered("decided.html", "decided", "Decided", [values, in_frame(0)])?));
    let (calendar, now) = (&forecasts.calendar, forecasts.now);
    let since = report::usual_since(calendar, now);
    let report = report::read(store, calendar, now, Asked { since, partner: None, most: REPORTED }).await?;
    let values = json!({ "report": report, "links": true });
    files.push(("report.html".into(), rendered("report.html", "report", "Report", [values, in_frame(0)])?));
    let values = json!({ "health": health, "version": env!("CARGO_PKG_VERSION") });
    files.push(("health.html".into(), rendered("health.html", "health", "Health", [values, in_frame(0)])?));
    for (partner, id) in customers {
        let rows = store.rows_of(&partner, &id).await?;
        let one = OneCustomer::read(store, forecasts, &rows, None, STEPS).await?;
        let title = one.name.clone();
        let html = rendered("customer.html", "", &title, [one.values(None, false), in_frame(2)])?;
        files.push((format!("{}.html", vetwatch_core::page::customer(&partner, &id)).into(), html));
    }
    Ok(files)
}

/// Nothing, an empty folder, or one that this command wrote.
fn may_be_replaced(dir: &Path) -> io::Result<()> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if entries.next().is_none() || dir.join(MARK).is_file() {
        return Ok(());
    }
    Err(io::Error::other("the folder holds something that `vetwatch page` did not write"))
}

fn beside(dir: &Path, ending: &str) -> io::Result<PathBuf> {
    let name = dir.file_name().ok_or_else(|| io::Error::other("the folder needs a name"))?;
    let mut name = name.to_owned();
    name.push(ending);
    Ok(dir.with_file_name(name))
}

/// Writes all of it beside the folder, then puts it in its place: no reader sees half of it.
fn write(dir: &Path, files: &Files) -> io::Result<()> {
    // A link that a web server follows stays one.
    let dir = &std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    // Another run into the same place goes first.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = std::fs::File::open(parent)?;
    place.lock()?;
    may_be_replaced(dir)?;
    let (new, old) = (beside(dir, ".new")?, beside(dir, ".old")?);
    for leftover in [&new, &old] {
        may_be_replaced(leftover)?;
        if leftover.exists() {
            std::fs::remove_dir_all(leftover)?;
        }
    }
    std::fs::create_dir(&new)?;
    std::fs::write(new.join(MARK), "")?;
    for (path, content) in files {
        let path = new.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, content)?;
    }
    // Where the file system can exchange them, there is no moment without a folder.
    if renameat2(AT_FDCWD, &new, AT_FDCWD, dir, RenameFlags::RENAME_EXCHANGE).is_ok() {
        return std::fs::remove_dir_all(&new);
    }
    if dir.exists() {
        std::fs::rename(dir, &old)?;
    }
    std::fs::rename(&new, dir)?;
    if old.exists() {
        std::fs::remove_dir_all(&old)?;
    }
    Ok(())
}

fn unwritten(dir: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}", dir.display()))
        .because(error.to_string())
        .advise("name a folder that does not exist yet, where this user may write")
}
