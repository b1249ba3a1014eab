//! Everything goes wrong at once while Microsoft decides: Partner Center, mail server and receivers fail at every stage,
//! the disk fills and fails, the database is held, the clock is set, the machine sleeps for hours or days, the daemon is
//! stopped and killed, configurations come and go, backups are restored. In the end each verdict that the daemon looked at
//! five times has arrived wherever it was to arrive, under one id; nothing was invented; and meanwhile `status` never said
//! that all was well while something kept a verdict from a person.
//!
//! `tests/campaign chaos 60` does it for an hour. Time passes forty times as fast for the daemon: see [`machine`].

pub(crate) mod machine;
mod trouble;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use vetwatch::sandbox::CustomerDetails;
use vetwatch::sandbox::webhook_receiver::{Signature, WebhookRequest};
use vetwatch::time::{Clock as _, Timestamp};

use self::machine::Machine;
use self::trouble::{Place, Trouble};
use self::truth::{HOOKS, Key, Step, Truth, key};
use crate::crash::reviews::name_of;
use crate::process::{Daemon, DaemonHarness, complaint};
use crate::world::{plain_text, try_rows};

const SPEED: u32 = 40;
const CUSTOMERS: u64 = 12;
const SCHEDULE: &str = "in_review = \"20s\"\nsettled = \"20s\"\nunqualified = \"20s\"";
const MORE: &str = "
[[route]]
events = [\"vetting.submitted\"]
endpoints = [\"sales-mail\", \"crm\", \"spare\"]
group_wait = \"0s\"
[retry]
schedule = [\"5s\", \"30s\", \"2m\"]
[overdue]
business_days = []
[summary]
schedule = \"0 0 8 * * Mon\"
endpoints = [\"sales-mail\"]
[backup]
dir = \"backups\"
";
const RECIPIENTS: [&str; 2] = ["sales@contoso.example", "boss@contoso.example"];
/// While a verdict is kept from a person for longer than this, `status` says so. It must after 30 minutes without a good
/// answer, after 15 at a failing endpoint; some of them may come one after the other.
const SILENCE: Duration = Duration::from_hours(1);
/// For the rest, once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_mins(4);
/// When clocks are changed in Amsterdam.
const CHANGES: [i64; 4] = [1_806_195_600_000, 1_824_944_400_000, 1_837_645_200_000, 1_856_394_000_000];

/// `VETWATCH_CHAOS` minutes; a few seconds without it.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_verdict_arrives_under_one_id_and_status_says_what_keeps_it() {
    let minutes: Option<u64> =
        std::env::var("VETWATCH_CHAOS").ok().map(|given| given.parse().expect("VETWATCH_CHAOS is a number"));
    let seed = std::env::var("VETWATCH_SEED").ok().map(|seed| seed.parse().expect("VETWATCH_SEED is a number"));
    // A campaign looks for what is not known yet; a test run repeats what is.
    let seed = seed.unwrap_or_else(|| if minutes.is_some() { fastrand::u64(..) } else { 1 });
    let time = minutes.map_or(Duration::from_secs(12), Duration::from_mins);
    Chaos::new(seed).await.run(time).await;
}

struct Chaos {
    town: DaemonHarness,
    truth: Truth,
    machine: Arc<Machine>,
    rng: Rng,
    began: Instant,
    daemon: Option<Daemon>,
    started_at: Instant,
    troubles: Vec<Trouble>,
    /// The configuration with both receivers.
    usual: String,
    backup: Option<Backup>,
    visitors: u64,
    counts: BTreeMap<String, u64>,
}

/// What the last good backup holds.
struct Backup {
    recorded: BTreeSet<Key>,
    customers: BTreeSet<String>,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let mut folder = TempDir::new().expect("a folder");
        folder.disable_cleanup(true);
        eprintln!("VETWATCH_SEED={seed}, in {}", folder.path().display());
        let mut rng = Rng::with_seed(seed);
        let machine = Arc::new(Machine::new(folder.path(), SPEED));
        let mut town = DaemonHarness::at(machine.clone(), folder, None, SCHEDULE, MORE).await;
        town.environment.extend(machine.environment.clone());
        let spare = format!(
            "[[endpoint]]\nname = \"spare\"\nkind = \"webhook\"\nurl = \"{}\"\nsecret_file = \"signing-secret\"\n\n[[route]]",
            town.hook.url().join("/spare").expect("a URL")
        );
        let text = std::fs::read_to_string(&town.config).expect("a configuration");
        let usual = text
            .replacen("[[route]]", &spare, 1)
            .replace("to = [\"sales@contoso.example\"]", "to = [\"sales@contoso.example\", \"boss@contoso.example\"]")
            .replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"sales-mail\", \"crm\", \"spare\"]", 1)
            .replace("dir = \"backups\"", &format!("dir = \"{}\"", town.folder.path().join("backups").display()));
        std::fs::create_dir(town.folder.path().join("backups")).expect("a folder");
        std::fs::write(&town.config, &usual).expect("a configuration");

        let mut truth = Truth::new(&town.database, rng.fork());
        let ids = town.add_customers(usize::try_from(CUSTOMERS).expect("a small number")).await;
        for (n, id) in ids.iter().enumerate() {
            truth::submit(&town, id);
            truth.follow(id, &format!("School {:04}", n + 1));
        }
        let polled = town.run_beside(&["poll"]).await;
        assert!(polled.status.success(), "{}", complaint(&polled));
        let now = Instant::now();
        Self {
            town,
            truth,
            machine,
            rng,
            began: now,
            daemon: None,
            started_at: now,
            troubles: Vec::new(),
            usual,
            backup: None,
            visitors: 0,
            counts: BTreeMap::new(),
        }
    }

    fn say(&self, what: &str) {
        eprintln!("{:7.1} s, {}: {what}", self.began.elapsed().as_secs_f32(), self.machine.now());
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    async fn run(mut self, time: Duration) {
        self.back_up().await;
        let (mut looked, end) = (Instant::now(), Instant::now() + time);
        while Instant::now() < end {
            let now = Instant::now();
            self.end_those(|trouble| trouble.until <= now).await;
            self.keep_running();
            self.step().await;
            if looked.elapsed() > Duration::from_secs(5) {
                self.look_at_status().await;
                looked = Instant::now();
            }
            let pause = self.rng.u64(50..1200);
            self.pass(Duration::from_millis(pause)).await;
        }
        self.settle().await;
        self.judge().await;
    }

    async fn step(&mut self) {
        match self.rng.u8(..100) {
            0..16 => self.begin(Place::Api).await,
            16..20 => self.begin(Place::Drip).await,
            20..25 => self.begin(Place::Token).await,
            25..40 => self.begin(Place::Smtp).await,
            40..55 => self.begin(Place::Hook).await,
            55..62 => self.begin(Place::Disk).await,
            62..66 => self.begin(Place::Lock).await,
            66..69 => self.begin(Place::Clock).await,
            69..72 => self.begin(Place::Stop).await,
            72..74 => self.sleep(),
            74..80 => self.kill(),
            80..87 => self.reload().await,
            87..90 => self.back_up().await,
            90 => self.restore().await,
            91..96 => self.visit().await,
            _ => self.type_command().await,
        }
    }

    /// Microsoft goes on deciding.
    async fn pass(&mut self, time: Duration) {
        let running = self.daemon.is_some() && !self.troubles.iter().any(|trouble| trouble.place == Place::Stop);
        tokio::select! {
            () = self.truth.go_on(&self.town, running) => unreachable!("Microsoft never ends"),
            () = sleep(time) => {}
        }
    }

    async fn command(&mut self, arguments: &[&str]) -> Output {
        let output = tokio::select! {
            () = self.truth.go_on(&self.town, self.daemon.is_some()) => unreachable!("Microsoft never ends"),
            output = self.town.run_beside(arguments) => output,
        };
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1 | 3 | 4 | 5 | 75 | 78)), "{arguments:?}: {}", complaint(&output));
        let code = code.unwrap_or_default();
        self.count(&format!("`{}`: {code}", arguments[0]));
        output
    }

    /// As a service manager does.
    fn keep_running(&mut self) {
        if let Some(daemon) = &mut self.daemon
            && !daemon.runs()
        {
            self.daemon = None;
            self.say("the daemon has ended by itself");
            self.count("ended by itself");
        }
        if self.daemon.is_none() && self.started_at.elapsed() > Duration::from_millis(300) {
            self.daemon = Some(self.town.start());
            self.started_at = Instant::now();
            self.count("started");
        }
    }

    fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.say("SIGKILL");
            self.count("SIGKILL");
            daemon.kill();
        }
    }

    /// For hours, for days, or until shortly before clocks are changed. Receivers may be down all the while.
    fn sleep(&mut self) {
        let now = self.machine.now();
        let (hours, to_change) = (self.rng.u64(1..120), self.rng.u8(..4) == 0);
        let change = CHANGES.iter().map(|at| Timestamp::from_millis(*at).before(Duration::from_mins(3)));
        let time = match change.into_iter().find(|at| *at > now) {
            Some(change) if to_change => change.since(now),
            _ => Duration::from_hours(hours),
        };
        self.machine.suspend(time);
        self.say(&format!("slept for {} h", time.as_secs() / 3600));
        self.count(if to_change { "slept until the clocks were changed" } else { "slept" });
    }

    async fn reload(&mut self) {
        let without = |text: &str, name: &str| {
            let begin = text.find(&format!("[[endpoint]]\nname = \"{name}\"")).expect("an endpoint");
            let length = text[begin + 1..].find("\n[[").expect("a next section") + 2;
            let rest = [&text[..begin], &text[begin + length..]].concat();
            rest.replace(&format!(", \"{name}\""), "")
        };
        let usual = self.usual.clone();
        let (text, hooks) = match self.rng.u8(..8) {
            0 => (without(&usual, "spare"), [true, false]),
            1 => (without(&usual, "crm"), [false, true]),
            2 => (usual.replace("/spare\"", "/spare-moved\""), [true; 2]),
            3 => (usual.replace("in_review = \"20s\"", "in_review = \"15s\""), [true; 2]),
            4 => (
                usual.replace("requests_per_minute = 60000", "requests_per_minute = 5000\nmax_in_flight = 2"),
                [true; 2],
            ),
            5 => (usual.replace("schedule = [\"5s\"", "schedule = [\"soon\""), [true; 2]),
            _ => (usual, [true; 2]),
        };
        let is_wrong = text.contains("soon");
        let asks = self.rng.u8(..4) > 0;
        if is_wrong && !asks {
            return;
        }
        self.write_config(&text, hooks, is_wrong);
        if !asks {
            if let Some(daemon) = &self.daemon {
                daemon.signal("HUP");
                self.say(&format!("SIGHUP: crm, spare {hooks:?}"));
                self.count("SIGHUP");
            }
            return;
        }
        let output = self.command(&["reload"]).await;
        self.say(&format!("reload: crm, spare {hooks:?}, wrong: {is_wrong}: {:?}", output.status.code()));
        if is_wrong {
            assert!(!output.status.success(), "a wrong configuration was taken over");
            let usual = self.usual.clone();
            self.write_config(&usual, [true; 2], false);
        } else if output.status.success() {
            self.truth.hooks = vec![hooks];
            self.truth.note_hooks();
        }
    }

    /// The daemon may take it over from now on.
    fn write_config(&mut self, text: &str, hooks: [bool; 2], is_wrong: bool) {
        // As an editor does: a daemon that starts now reads a whole file.
        let new = self.town.config.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(&new, &self.town.config).expect("a file");
        if !is_wrong {
            self.truth.hooks.push(hooks);
            self.truth.note_hooks();
        }
    }

    fn backup_path(&self) -> String {
        self.town.folder.path().join("copy.db").display().to_string()
    }

    async fn back_up(&mut self) {
        let path = self.backup_path();
        let output = self.command(&["backup", &path]).await;
        self.say(&format!("backup: {:?}", output.status.code()));
        if !output.status.success() {
            return;
        }
        let copy = || SqliteConnectOptions::new().filename(&path).immutable(true);
        let sql = "select customer_id, unixepoch(vetting_created_at), to_status, vetting_reason from v_transitions";
        let recorded = try_rows(copy(), sql).await.expect("the backup's transitions");
        let recorded = recorded.iter().map(|row| {
            let columns: Vec<_> = row.splitn(4, " | ").collect();
            key(columns[0], columns[1].parse().expect("a date"), columns[2], columns[3])
        });
        // The first look at one that was not looked at before the backup is silent.
        let known = "select customer_id from v_customers where last_seen_at is not null";
        let customers = try_rows(copy(), known).await.expect("the backup's customers");
        self.backup = Some(Backup { recorded: recorded.collect(), customers: customers.into_iter().collect() });
    }

    async fn restore(&mut self) {
        let Some(backup) = &self.backup else { return };
        let (recorded, customers) = (backup.recorded.clone(), backup.customers.clone());
        self.end_those(|trouble| matches!(trouble.place, Place::Disk | Place::Lock | Place::Stop)).await;
        if let Some(mut daemon) = self.daemon.take() {
            daemon.terminate();
            daemon.ended().await;
        }
        self.truth.look().await;
        let path = self.backup_path();
        // Without `Truth::go_on`: what is seen meanwhile is of neither database.
        let mut output = self.town.run_beside(&["restore", &path]).await;
        for _ in 0..40 {
            if output.status.success() {
                break;
            }
            sleep(Duration::from_millis(500)).await; // another process holds the database
            output = self.town.run_beside(&["restore", &path]).await;
        }
        assert!(output.status.success(), "{}", complaint(&output));
        self.say(&format!("restored a backup of {} transitions", recorded.len()));
        self.count("restored");
        for id in self.truth.restored(&recorded, &customers) {
            self.truth.forget(&id);
        }
        self.started_at = Instant::now();
        self.daemon = Some(self.town.start());
        self.count("started");
    }

    /// A customer comes, or goes.
    async fn visit(&mut self) {
        if self.rng.bool() {
            let n = self.visitors;
            self.visitors += 1;
            let (id, name) = (format!("{n:08x}-aaaa-4000-8000-000000000000"), format!("Visitor {n:04}"));
            let details = CustomerDetails::new(&id, &name, "visitor.example");
            self.town.sandbox.add_customer(details).expect("a new customer");
            truth::submit(&self.town, &id);
            let output = self.command(&["customers", "add", &id, "--name", &name]).await;
            self.say(&format!("{name} comes: {:?}", output.status.code()));
            if output.status.success() {
                self.truth.follow(&id, &name);
            }
        } else if let Some(id) = self.truth.at_rest("-aaaa-") {
            let output = self.command(&["customers", "remove", &id]).await;
            self.say(&format!("{} goes: {:?}", self.truth.name(&id), output.status.code()));
            self.truth.forget(&id);
        }
    }

    async fn type_command(&mut self) {
        let bundle = self.town.folder.path().join("bundle.tar").display().to_string();
        let commands: [&[&str]; 8] = [
            &["status"],
            &["deliveries", "list"],
            &["customers", "list"],
            &["poll"],
            &["history", "--since", "1d"],
            &["report"],
            &["test-send", "--all"],
            &["support-bundle", &bundle],
        ];
        let command = self.rng.choice(commands).expect("a command");
        let output = self.command(command).await;
        self.say(&format!("{}: {:?}", command.join(" "), output.status.code()));
    }

    async fn redrive(&mut self) {
        for endpoint in ["sales-mail", "crm", "spare"] {
            self.command(&["deliveries", "redrive", "--endpoint", endpoint]).await;
        }
    }

    /// `status` must say that a person is needed while something has kept a verdict for long.
    async fn look_at_status(&mut self) {
        let kept: Vec<_> = self
            .missing()
            .into_iter()
            .filter(|(step, _)| step.is_verdict() && self.truth.ran.saturating_sub(step.ran) * SPEED > SILENCE)
            .map(|(step, place)| format!("{:?} at {place}", step.key))
            .collect();
        let output = self.command(&["status"]).await;
        self.count(&format!("status {:?} while a verdict is kept: {}", output.status.code(), !kept.is_empty()));
        let is_told = kept.is_empty() || !output.status.success();
        assert!(is_told, "status says that all is well, and this has not arrived: {kept:#?}\n{}", complaint(&output));
    }

    /// What must have arrived and has not, and where.
    fn missing(&self) -> Vec<(Step, String)> {
        let arrived: BTreeSet<_> = self
            .town
            .hook
            .hooks()
            .iter()
            .filter(|hook| hook.answered == Some(200))
            .filter_map(|hook| Some((endpoint_of(hook), told_by(hook)?.key)))
            .collect();
        let mut mailed = BTreeSet::new();
        for mail in self.town.mail.mails().iter().filter(|mail| mail.acknowledged) {
            for (key, _) in self.truth.mails.get(&name_of(mail)).into_iter().flatten() {
                mailed.extend(mail.to.iter().map(|to| (to.clone(), key.clone())));
            }
        }
        let mut missing = Vec::new();
        for step in self.truth.steps.iter().filter(|step| step.required) {
            for (n, hook) in HOOKS.iter().enumerate() {
                if step.with[n] && !step.without[n] && !arrived.contains(&(*hook, step.key.clone())) {
                    missing.push((step.clone(), (*hook).to_owned()));
                }
            }
            for to in RECIPIENTS {
                if !mailed.contains(&(to.to_owned(), step.key.clone())) {
                    missing.push((step.clone(), to.to_owned()));
                }
            }
        }
        missing
    }

    /// Ends all troubles, and waits for what is left.
    async fn settle(&mut self) {
        self.truth.over = true;
        self.end_those(|_| true).await;
        self.say("nothing goes wrong any more");
        let usual = self.usual.clone();
        self.write_config(&usual, [true; 2], false);
        let end = Instant::now() + PATIENCE;
        let (mut reloaded, mut turn) = (false, 0);
        loop {
            self.keep_running();
            if !reloaded {
                reloaded = self.command(&["reload"]).await.status.success();
            }
            if turn % 8 == 0 {
                let left: Vec<_> =
                    self.missing().iter().map(|(step, place)| format!("{:?} at {place}", step.key)).collect();
                self.say(&format!("{} have not arrived: {:?}", left.len(), &left[..left.len().min(3)]));
                self.redrive().await;
                self.machine.suspend(Duration::from_mins(20));
            }
            turn += 1;
            self.pass(Duration::from_millis(700)).await;
            let missing = self.missing();
            let pending = self.town.rows("select endpoint, state, count(*) from v_deliveries group by 1, 2").await;
            let waits = pending.iter().any(|row| !row.contains("delivered"));
            if reloaded && missing.is_empty() && self.truth.open() == 0 && !waits {
                break;
            }
            if Instant::now() > end {
                self.report_missing(&missing);
                panic!("{} have not arrived, {} are open; {pending:#?}", missing.len(), self.truth.open());
            }
        }
        let status = self.command(&["status"]).await;
        eprintln!("status at the end: {}\n{}", status.status, String::from_utf8_lossy(&status.stdout));
        assert!(matches!(status.status.code(), Some(0 | 3)), "{}", complaint(&status));
        self.daemon.take().expect("a daemon").stop().await;
    }

    fn report_missing(&self, missing: &[(Step, String)]) {
        for (step, place) in missing.iter().take(5) {
            eprintln!("--- has not arrived at {place}: {step:#?}");
            let name = self.truth.name(&step.key.0).to_owned();
            let journal = self.town.journal();
            let about = |line: &&str| line.contains(&step.key.0) || (!name.is_empty() && line.contains(&name));
            journal.lines().filter(about).for_each(|line| eprintln!("    {line}"));
        }
    }

    /// Nothing but what was decided, and that under one id.
    async fn judge(&mut self) {
        let known: BTreeMap<_, _> = self.truth.steps.iter().map(|step| (&step.key, step)).collect();
        let (mut names, mut told) = (BTreeMap::<_, BTreeSet<String>>::new(), BTreeMap::<_, u64>::new());
        let mut events = BTreeMap::<_, BTreeSet<String>>::new();
        let hooks = self.town.hook.hooks();
        let wrong = |hook: &&WebhookRequest| matches!(hook.signature, Signature::Wrong | Signature::Missing);
        assert_eq!(hooks.iter().find(wrong), None, "a signature");
        for hook in &hooks {
            let Some(news) = told_by(hook) else { continue };
            let step = known.get(&news.key).unwrap_or_else(|| panic!("it was never decided: {hook:#?}"));
            assert!(step.kinds.contains(&news.kind.as_str()), "{step:#?} was told as {hook:#?}");
            let (n, endpoint) = (usize::from(endpoint_of(hook) == "spare"), endpoint_of(hook));
            assert!(step.with[n], "{endpoint} was not configured for {step:#?}: {hook:#?}");
            let id = hook.id().expect("webhook-id").to_owned();
            if matches!(hook.answered, Some(200) | None) {
                *told.entry((endpoint.to_owned(), id.clone())).or_default() += 1;
            }
            if step.is_verdict() {
                names.entry((endpoint, news.key.clone())).or_default().insert(id);
                events.entry(news.key).or_default().insert(news.event);
            }
        }
        let mails = self.town.mail.mails();
        let mut others = 0;
        for mail in &mails {
            let (id, text) = (name_of(mail), plain_text(mail));
            let Some(steps) = self.truth.mails.get(&id) else {
                let kind =
                    mail.text().lines().find_map(|line| line.strip_prefix("X-Vetwatch-Event: ").map(str::to_owned));
                // No route groups: digests are the operators'.
                let is_vetting =
                    kind.as_deref().is_none_or(|kind| kind.starts_with("vetting.") && kind != "vetting.digest");
                assert!(
                    !is_vetting || text.contains("THIS IS A TEST"),
                    "nobody knows what this is about: {}\n{text}",
                    mail.text()
                );
                others += 1;
                continue;
            };
            for (key, event) in steps {
                let step = known.get(key).unwrap_or_else(|| panic!("it was never decided: {text}"));
                assert!(unwrapped(&text).contains(&unwrapped(&key.3)), "the reason of {step:#?} is not in {text}");
                if step.is_verdict() {
                    names.entry(("sales-mail", key.clone())).or_default().insert(id.clone());
                    events.entry(key.clone()).or_default().insert(event.clone());
                }
            }
            for to in &mail.to {
                *told.entry((to.clone(), id.clone())).or_default() += 1;
            }
        }
        let twice: Vec<_> = names.iter().filter(|(_, ids)| ids.len() > 1).collect();
        assert!(twice.is_empty(), "under two ids: {twice:#?}");
        let twice: Vec<_> = events.iter().filter(|(_, ids)| ids.len() > 1).collect();
        assert!(twice.is_empty(), "two events: {twice:#?}");
        assert_eq!(self.town.rows("pragma integrity_check").await, ["ok"]);
        assert_eq!(self.town.rows("pragma foreign_key_check").await, [""; 0]);
        let journal = self.town.journal();
        let panics: Vec<_> = journal.lines().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
        let verdicts = self.truth.steps.iter().filter(|step| step.is_verdict()).count();
        let required = self.truth.steps.iter().filter(|step| step.is_verdict() && step.required).count();
        let repeated: u64 = told.values().map(|times| times - 1).sum();
        eprintln!("{:#?}", self.counts);
        eprintln!(
            "{} s: {verdicts} verdicts, {} of them forgotten by restored backups; {} submissions; {} webhooks and {} mails \
             received ({others} mails about vetwatch), {} verdicts and submissions \
             taken, {repeated} of them again under their id; {} \
             calls of the disk failed",
            self.began.elapsed().as_secs(),
            verdicts - required,
            self.truth.steps.len() - verdicts,
            hooks.len(),
            mails.len(),
            told.values().sum::<u64>(),
            self.machine.failed()
        );
        self.town.folder.disable_cleanup(false);
    }
}

/// What a webhook told.
struct News {
    key: Key,
    kind: String,
    event: String,
}

/// `None` if it is not about a review, or was not read.
fn told_by(hook: &WebhookRequest) -> Option<News> {
    let json = hook.json();
    let grouped = json["data"]["events"].as_array();
    let is_monitor = |event: &Value| event["type"].as_str().is_some_and(|kind| kind.starts_with("monitor."));
    assert!(grouped.is_none_or(|events| events.iter().all(is_monitor)), "no route groups: {json}");
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = text("/type");
    if !kind.starts_with("vetting.") || json["data"]["test"] == Value::Bool(true) {
        return None;
    }
    let created: Timestamp = serde_json::from_value(json["data"]["vetting_created_at"].clone()).ok()?;
    let key = key(&text("/data/customer/id"), created.as_secs(), &text("/data/to"), &text("/data/vetting_reason"));
    Some(News { key, kind, event: text("/data/event_id") })
}

fn endpoint_of(hook: &WebhookRequest) -> &'static str {
    if hook.path.starts_with("/spare") { "spare" } else { "crm" }
}

/// The text of a mail is wrapped, also between ideographs.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect()
}
