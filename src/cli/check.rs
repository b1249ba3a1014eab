//! `vetwatch check`: validates the configuration, and shows what it will do.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;

use crate::backup;
use crate::cli::{Context, Exit, Failure, connectivity_check, fit, privileges};
use crate::config::{Config, CredentialDirs, EndpointKind, EndpointSettings, Problem, Problems};
use crate::delivery::email::{LoginBy, Tls};
use crate::delivery::route::Route;
use crate::event::EventType;
use crate::partner_center::Customers;
use crate::text;

/// The directory that the shipped unit may write to (`StateDirectory=`).
const STATE_DIRECTORY: &str = "/var/lib/vetwatch";
/// Where `systemctl edit vetwatch` writes.
const DROP_INS: &str = "/etc/systemd/system/vetwatch.service.d";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also speak to Partner Center and to the mail servers
    #[arg(long)]
    pub live: bool,
}

/// Problems go to stderr, as everywhere; what the configuration will do goes to stdout.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (mut checked, config) = load(&context.config_path, &CredentialDirs::from_env());
    if let Some(config) = config {
        checked.warnings.extend(unwritable_backups(&config, Path::new(DROP_INS)));
        checked.warnings.extend(fit::warnings(context, &config).await);
        if args.live {
            return try_it(context, &mut checked, &config).await;
        }
    }
    if context.json {
        context.out.write_exact(&checked.json())?;
    } else if checked.ok {
        context.out.write(&checked.text())?;
    } else {
        // If it cannot be written, the exit code remains.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), checked.text().as_bytes());
    }
    Ok(if checked.ok { Exit::Done } else { Exit::Configuration })
}

async fn try_it(context: &Context, checked: &mut Checked, config: &Config) -> Result<Exit, Failure> {
    // Using a user's token replaces it, and the daemon's user must be able to do so later.
    privileges::become_owner_of(&config.database)?;
    if !context.json {
        context.out.write(&checked.text())?;
    }
    let steps = connectivity_check::walk(context, config).await?;
    let end = connectivity_check::end(&steps);
    checked.live = Some(steps);
    checked.not_tried = connectivity_check::untried(config).map(str::to_owned).collect();
    if context.json {
        context.out.write_exact(&checked.json())?;
    }
    end
}

/// The result. Serialized, it is what `check --json` prints.
#[derive(Debug, Serialize)]
struct Checked {
    /// The file's name.
    file: String,
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// What the configuration will do. `None` if there is a problem.
    summary: Option<Summary>,
    /// The steps of `--live`.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Vec<connectivity_check::Step>>,
    /// The endpoints that `--live` cannot try.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_tried: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    database: String,
    partners: Vec<Named>,
    endpoints: Vec<Named>,
    events: Vec<EventDestinations>,
    /// The routes that delay messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<Named>,
    /// The daemon's backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    backups: Option<String>,
    /// This host, and what elects and replicates.
    #[serde(skip_serializing_if = "Option::is_none")]
    standby: Option<String>,
}

/// A name and a short description.
#[derive(Debug, Serialize)]
struct Named {
    name: String,
    is: String,
}

/// An event and its destinations.
#[derive(Debug, Serialize)]
struct EventDestinations {
    event: &'static str,
    to: Vec<Destination>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Destination {
    endpoint: String,
    /// The condition, for people: `tags: north`, `if no route takes it`.
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<String>,
}

/// Reads the file and the secrets; sends nothing.
fn load(path: &Path, credentials: &CredentialDirs) -> (Checked, Option<Config>) {
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match Config::load(path, credentials) {
        Ok(config) => {
            let (summary, warnings) = (Some(Summary::of(&config)), config.warnings.clone());
            (
                Checked { file, ok: true, problems: Vec::new(), warnings, summary, live: None, not_tried: Vec::new() },
                Some(config),
            )
        }
        Err(found) => {
            let Problems { file, problems, warnings } = found;
            (Checked { file, ok: false, problems, warnings, summary: None, live: None, not_tried: Vec::new() }, None)
        }
    }
}

/// What `check` says, without the lines of the file that it quotes: in a file that is not TOML they may hold a secret.
pub(super) fn page(path: &Path, credentials: &CredentialDirs) -> String {
    let quotes = |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let text = load(path, credentials).0.text();
    text.split_inclusive('\n').filter(|line| !quotes(line)).collect()
}

impl Checked {
    /// Ends with a line feed, as does [`Checked::text`].
    fn json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("plain structures are always JSON");
        json.push('\n');
        text::inert_json(&json)
    }

    /// Renders every problem and warning, then what the configuration will do.
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        for problem in &self.problems {
            let _ = writeln!(text, "{}{problem}", problem.position(&self.file));
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "{}warning: {warning}", warning.position(&self.file));
        }
        let Some(summary) = &self.summary else {
            let count = self.problems.len();
            let _ = writeln!(text, "{}: {count} problem{}", self.file, if count == 1 { "" } else { "s" });
            return text;
        };
        let _ = writeln!(text, "{}: OK\n\ndatabase {}", self.file, summary.database);
        for (kind, named) in [("partner", &summary.partners), ("endpoint", &summary.endpoints)] {
            for Named { name, is } in named {
                let _ = writeln!(text, "{kind} {name}: {is}");
            }
        }
        let _ = writeln!(text, "\nwhere events are sent:");
        let width = EventType::ALL.iter().map(|event| event.as_str().len()).max().unwrap_or(0);
        for EventDestinations { event, to } in &summary.events {
            let to: Vec<String> = to.iter().map(Destination::to_string).collect();
            let to = if to.is_empty() { "nobody; it is recorded".into() } else { to.join(", ") };
            let _ = writeln!(text, "  {event:width$}  {to}");
        }
        if !summary.holds.is_empty() {
            let _ = writeln!(text, "\nwhat does not go out at once:");
        }
        for Named { name, is } in &summary.holds {
            let _ = writeln!(text, "  {name}: {is}");
        }
        let _ = writeln!(text, "\nbackups: {}", summary.backups.as_deref().unwrap_or("none (there is no [backup])"));
        if let Some(standby) = &summary.standby {
            let _ = writeln!(text, "standby: {standby}");
        }
        text
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.endpoint)?;
        self.only.as_ref().map_or(Ok(()), |only| write!(f, " ({only})"))
    }
}

impl Summary {
    #[must_use]
    pub(crate) fn of(config: &Config) -> Self {
        let partners = config.partners.iter().map(|partner| {
            let customers = match partner.customers {
                Customers::Synced => "all customers",
                Customers::Manual => "customers added by hand",
            };
            let host = partner.api_url.host_str().unwrap_or_default();
            let budget = partner.requests_per_minute;
            let room = fit::room(config, partner);
            let is = format!("{} at {host}, {customers}, at most {budget} requests a minute ({room})", partner.tenant);
            Named { name: partner.name.clone(), is }
        });
        let endpoints =
            config.endpoints.iter().map(|endpoint| Named { name: endpoint.name.clone(), is: about(endpoint) });
        let events = EventType::ALL
            .iter()
            .filter(|event| event.is_routed() || config.summary.is_some())
            .map(|event| EventDestinations { event: event.as_str(), to: destinations(config, *event) });
        let routes = config.routes.routes.iter();
        let holds = routes.filter_map(|route| Some(Named { name: route.name.clone(), is: route.delay_summary()? }));
        Self {
            database: config.database.display().to_string(),
            partners: partners.collect(),
            endpoints: endpoints.collect(),
            events: events.collect(),
            holds: holds.collect(),
            backups: config.backup.as_ref().map(|backup| backups(backup, &config.database)),
            standby: config.standby.as_ref().map(ToString::to_string),
        }
    }
}

fn backups(settings: &backup::Settings, database: &Path) -> String {
    let backup::Settings { dir, keep, times } = settings;
    // A directory that is not made yet is on the disk of the one above.
    let disk = |path: &Path| path.ancestors().find_map(|path| Some(path.metadata().ok()?.dev()));
    let same = match (disk(dir), database.parent().and_then(disk)) {
        (Some(one), Some(other)) if one == other => {
            "; on the disk of the database, so copy them elsewhere: they do not survive the disk"
        }
        _ => "",
    };
    format!("at \"{}\" ({}) in {}, the newest {keep} are kept{same}", times.schedule, times.zone, dir.display())
}

/// Warns if the shipped unit's sandbox keeps the daemon from writing backups.
fn unwritable_backups(config: &Config, drop_ins: &Path) -> Option<Problem> {
    let (dir, home) = (&config.backup.as_ref()?.dir, Path::new(STATE_DIRECTORY));
    let is_named = || {
        let files = std::fs::read_dir(drop_ins).into_iter().flatten().filter_map(Result::ok);
        let mut texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.any(|text| text.lines().any(|line| line.starts_with("ReadWritePaths=")))
    };
    if !config.database.starts_with(home) || dir.starts_with(home) || is_named() {
        return None;
    }
    let text = format!(
        "the unit lets the service write below {STATE_DIRECTORY} only: `systemctl edit vetwatch`, and add the lines \
         [Service] and ReadWritePaths={}",
        dir.display()
    );
    Some(Problem::new(&config.places, "backup.dir".to_owned(), text))
}

fn about(endpoint: &EndpointSettings) -> String {
    match &endpoint.kind {
        EndpointKind::Email(email) => {
            let to: Vec<String> = email.to.iter().map(|mailbox| mailbox.email.to_string()).collect();
            let tls = match email.smtp.tls {
                Tls::Starttls => "STARTTLS",
                Tls::Implicit => "TLS",
                Tls::None => "no TLS",
            };
            let token = email.smtp.login.as_ref().is_some_and(|login| matches!(login.by, LoginBy::Token(_)));
            let token = if token { ", with a token" } else { "" };
            format!("mail to {} by {}:{} ({tls}{token})", to.join(", "), email.smtp.host, email.smtp.port)
        }
        EndpointKind::Webhook(webhook) => {
            let place = webhook.http.place();
            let count = webhook.secrets.len();
            let signed = match count {
                0 => "not signed".to_owned(),
                1 => "signed with 1 secret".to_owned(),
                _ => format!("signed with {count} secrets"),
            };
            let form = if webhook.template.is_some() { ", in a form of its own" } else { "" };
            let login = if webhook.authorization.is_some() { ", with a login" } else { "" };
            format!("webhook at {place}{form}, {signed}{login}")
        }
        EndpointKind::Chat(chat) => chat.description(),
    }
}

/// Mirrors [`Routes::endpoints`](crate::delivery::route::Routes::endpoints), with the conditions spelled out.
fn destinations(config: &Config, event: EventType) -> Vec<Destination> {
    let mut to: Vec<Destination> = Vec::new();
    // An endpoint that always gets the event needs no condition.
    let mut add = |endpoint: &String, only: Option<String>| match to.iter_mut().find(|it| it.endpoint == *endpoint) {
        Some(it) if it.only.is_none() || only.is_none() => it.only = None,
        Some(it) => it.only = it.only.take().zip(only).map(|(one, other)| format!("{one}; or {other}")),
        None => to.push(Destination { endpoint: endpoint.clone(), only }),
    };
    let routes = &config.routes;
    if event.is_for_operators() {
        routes.operators.iter().for_each(|endpoint| add(endpoint, None));
    }
    if event == EventType::Summary {
        config.summary.iter().flat_map(|summary| &summary.endpoints).for_each(|endpoint| add(endpoint, None));
        return to;
    }
    let takers: Vec<&Route> = routes.routes.iter().filter(|route| route.filter.events.contains(&event)).collect();
    for route in &takers {
        route.endpoints.iter().for_each(|endpoint| add(endpoint, route.filter.conditions()));
    }
    if !event.is_for_operators() && !event.is_opt_in() && takers.iter().all(|route| route.filter.conditions().is_some())
    {
        let only = if takers.is_empty() { None } else { Some("if no route takes it".into()) };
        routes.operators.iter().for_each(|endpoint| add(endpoint, only.clone()));
    }
    to
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/vetwatch.toml");

    fn checked(text: &str) -> Checked {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new().unwrap();
        let files = [
            ("client-secret", "the-client-secret"),
            ("smtp-password", "the-smtp-password"),
            ("crm-url", "https://crm.contoso.example/the-secret-url"),
            ("crm-signing-secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"),
            ("vetwatch.toml", text),
        ];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        load(&dir.path().join("vetwatch.toml"), &CredentialDirs::only(dir.path())).0
    }

    #[test]
    fn a_good_file_says_what_it_will_do_and_shows_no_secret() {
        let checked = checked(EXAMPLE);
        assert!(checked.ok);
        for secret in ["the-client-secret", "the-smtp-password", "the-secret-url", "whsec"] {
            assert!(!checked.text().contains(secret) && !checked.json().contains(secret));
        }
        insta::assert_snapshot!(checked.text(), @r#"
    vetwatch.toml:17: warning: partner "emea": tenant: is the example's: write your tenant's domain, or its GUID
    vetwatch.toml:18: warning: partner "emea": client_id: is the example's: copy your application's from its page in Entra ID, where it is the Application (client) ID
    vetwatch.toml: OK

    database /var/lib/vetwatch/vetwatch.db
    partner emea: contoso.onmicrosoft.com at api.partnercenter.microsoft.com, all customers, at most 300 requests a minute (enough for 4238 customers in review or 406879 settled)
    endpoint sales-mail: mail to education-sales@contoso.example by smtp.contoso.example:587 (STARTTLS)
    endpoint ops-mail: mail to it-operations@contoso.example by smtp.contoso.example:587 (STARTTLS)
    endpoint crm: webhook at crm.contoso.example, signed with 1 secret

    where events are sent:
      vetting.approved             sales-mail, crm
      vetting.denied               sales-mail, crm
      vetting.revoked              sales-mail, crm
      vetting.vanished             sales-mail, crm
      vetting.submitted            nobody; it is recorded
      vetting.changed              nobody; it is recorded
      vetting.overdue              sales-mail, crm
      monitor.unknown_status       ops-mail, crm
      monitor.initial_sync         ops-mail, crm
      monitor.partner_failing      ops-mail, crm
      monitor.partner_recovered    ops-mail, crm
      monitor.customers_failing    ops-mail, crm
      monitor.customers_recovered  ops-mail, crm
      monitor.customers_departed   ops-mail, crm
      monitor.polling_late         ops-mail, crm
      monitor.polling_recovered    ops-mail, crm
      monitor.endpoint_failing     ops-mail, crm
      monitor.endpoint_recovered   ops-mail, crm
      monitor.dead_letter          ops-mail, crm
      monitor.credential_expiring  ops-mail, crm
      monitor.backup_failed        ops-mail, crm
      monitor.backup_recovered     ops-mail, crm
      monitor.leader_changed       ops-mail, crm
      monitor.standby_failing      ops-mail, crm
      monitor.standby_recovered    ops-mail, crm

    backups: at "0 30 2 * * *" (Europe/Amsterdam) in /var/lib/vetwatch/backups, the newest 14 are kept; on the disk of the database, so copy them elsewhere: they do not survive the disk
    "#);
    }

    #[test]
    fn a_directory_for_backups_that_the_unit_keeps_from_the_service_is_warned_about() {
        let checked = |dir: &str, drop_in: &str| {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("override.conf"), drop_in).unwrap();
            let text = EXAMPLE.replace("dir = \"/var/lib/vetwatch/backups\"", &format!("dir = '{dir}'"));
            fs::write(folder.path().join("vetwatch.toml"), &text).unwrap();
            for (name, text) in [
                ("client-secret", "x"),
                ("smtp-password", "x"),
                ("crm-url", "https://crm.contoso.example/x"),
                ("crm-signing-secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"),
            ] {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let credentials = CredentialDirs::only(folder.path());
            let config = Config::load(&folder.path().join("vetwatch.toml"), &credentials).unwrap();
            unwritable_backups(&config, folder.path()).map(|problem| problem.to_string())
        };
        let warning = checked("/srv/backups", "").unwrap();
        assert!(warning.ends_with("ReadWritePaths=/srv/backups"), "{warning}");
        assert_eq!(checked("/srv/backups", "[Service]\nReadWritePaths=/srv/backups\n"), None);
        assert_eq!(checked("/var/lib/vetwatch/backups", ""), None);
    }

    #[test]
    fn a_route_that_takes_only_some_shows_its_condition() {
        let north =
            "[[route]]\nevents = ['vetting.approved', 'vetting.submitted', 'vetting.overdue']\nendpoints = ['crm']\n";
        let north = format!("{north}qualifications = ['Education', 'Nonprofit']\ntags = ['north']\n");
        let routes =
            EXAMPLE.replace(", \"vetting.overdue\"", "").replace("[operators]", &format!("{north}\n[operators]"));
        let events = checked(&routes).summary.unwrap().events;
        let to = |event: EventType| {
            let found = events.iter().find(|it| it.event == event.as_str()).unwrap();
            found.to.iter().map(Destination::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(checked(&routes).summary.unwrap().holds.len(), 0);
        let quiet =
            "quiet_hours = '18:00-07:00'\nworking_days_only = true\ngroup_wait = '5m'\nurgent = ['vetting.approved']\n";
        let holds = checked(&routes.replace("\n[operators]", &format!("{quiet}\n[operators]"))).summary.unwrap().holds;
        let delays =
            "gathers for 5m; quiet 18:00-07:00, days that are not worked (Europe/Amsterdam); except vetting.approved";
        assert_eq!((holds[0].name.as_str(), holds[0].is.as_str()), ("route 2", delays));
        assert_eq!(to(EventType::Approved), "sales-mail; crm", "somebody who is told in any case needs no condition");
        assert_eq!(to(EventType::Submitted), "crm (qualifications: Education or Nonprofit, tags: north)");
        let some = "crm (qualifications: Education or Nonprofit, tags: north; or if no route takes it)";
        assert_eq!(to(EventType::Overdue), format!("{some}; ops-mail (if no route takes it)"));
    }

    #[test]
    fn a_bad_file_ends_with_78_and_tells_everything() {
        let checked = checked("[schedule]\nin_revew = \"15m\"\n[web]\nlisten = \"127.0.0.1:9464\"\n");
        assert!(!checked.ok);
        insta::assert_snapshot!(checked.text(), @r#"
    vetwatch.toml:2: schedule.in_revew: unknown key; did you mean in_review?
    vetwatch.toml: partner: is missing: add a section [[partner]] for the Partner Center tenant to watch
    vetwatch.toml: endpoint: is missing: add a section [[endpoint]] for each place that messages go to
    vetwatch.toml: operators: is missing: add a section [operators], with the endpoints that are told when something fails
    vetwatch.toml: 4 problems
    "#);
        let json: serde_json::Value = serde_json::from_str(&checked.json()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["problems"][0]["path"], "schedule.in_revew");
        assert_eq!(json["warnings"].as_array().unwrap().len(), 0);
    }
}
