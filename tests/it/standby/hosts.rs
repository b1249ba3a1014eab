//! The two hosts, etcd, and the server of the replicas.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::sleep;
use vetwatch::time::Timestamp;

use super::Trouble;
use super::network::{Network, Place};
use crate::chaos::machine::Machine;
use crate::crash::reviews::Step;
use crate::process::{DaemonHarness, SOON, complaint, eventually, now};
use crate::world::{rows, try_rows};

const HOSTS: [Place; 2] = [Place::A, Place::B];
const NAMES: [&str; 2] = ["host-a", "host-b"];
const CARRIER_MEGABYTES: u32 = 2048;
/// How many replicas are kept, as a rule of the storage would do it.
const REPLICAS: usize = 2;

/// `Err` says what this machine lacks.
pub(super) fn requirements() -> Result<(), String> {
    for program in ["etcd", "/usr/sbin/sshd", "ssh-keygen", "socat", "nft", "ip", "cc"] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        if !found.is_ok_and(|found| found.status.success()) {
            return Err(format!("{program} is not here"));
        }
    }
    if !litestream().exists() {
        return Err("litestream is not here".to_owned());
    }
    Ok(())
}

fn litestream() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/litestream").into()
}

#[derive(Debug)]
pub(super) struct Leader {
    pub(super) host: usize,
    pub(super) epoch: u64,
    /// When it was elected, by this process's clock.
    pub(super) since: Timestamp,
}

struct Host {
    folder: PathBuf,
    machine: Machine,
    /// How long the machine was suspended in all.
    asleep: Duration,
    process: Option<Child>,
    /// An older report is of the process before.
    started: SystemTime,
    log: PathBuf,
}

pub(super) struct Pair {
    network: Network,
    hosts: Vec<Host>,
    etcd: Child,
    sshd: Child,
    /// A small file system.
    carrier: PathBuf,
    hook_port: u16,
    mail_port: u16,
    etcd_port: u16,
    /// Of the credentials and certificates.
    home: PathBuf,
    /// The script that keeps a copy.
    follower: Option<Child>,
    /// When each epoch was seen first.
    elected: BTreeMap<u64, Timestamp>,
    /// The database with the newest data, once all is over.
    last: PathBuf,
}

impl Pair {
    pub(super) async fn new(town: &DaemonHarness, mut network: Network, lease: &str) -> Self {
        let folder = town.folder.path();
        let port = |url: &url::Url| url.port().expect("a port");
        let api: url::Url = town.sandbox.url().to_string().parse().expect("a URL");
        let (hook_port, mail_port) = (port(&town.hook.url()), town.mail.address().port());
        for port in [port(&api), hook_port, mail_port] {
            network.publish(port).await;
        }
        certificates(folder);
        let etcd_port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        network.forward(etcd_port, Place::Witness);
        let etcd = etcd(&network, folder, etcd_port);
        let carrier = folder.join("carrier");
        std::fs::create_dir(&carrier).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={CARRIER_MEGABYTES}m"), "none"])
            .arg(&carrier)
            .status();
        assert!(mounted.expect("mount").success());
        let sshd = sshd(&network, folder);
        let usual = std::fs::read_to_string(&town.config).expect("a configuration");
        let mut hosts = Vec::new();
        for name in NAMES {
            let home = folder.join(name);
            std::fs::create_dir(&home).expect("a directory");
            let machine = Machine::new(&home, 1);
            let database = town.database.display().to_string();
            let standby = format!(
                "\n[standby]\nhost = \"{name}\"\netcd_urls = [\"https://127.0.0.1:{etcd_port}\"]\nca_file = \"{ca}\"\n\
                 replica_url = \"sftp://root@{address}:22{carrier}/replica\"\nreplica_key_file = \"{key}\"\n\
                 litestream = \"{litestream}\"\nlease = \"{lease}\"\n",
                ca = folder.join("certificates/ca.pem").display(),
                address = network.address(Place::Carrier),
                carrier = carrier.display(),
                key = folder.join("key").display(),
                litestream = litestream().display(),
            );
            let text = usual.replace(&database, &home.join("vetwatch.db").display().to_string()) + &standby;
            std::fs::write(home.join("vetwatch.toml"), text).expect("a configuration");
            hosts.push(Host {
                log: home.join("log"),
                folder: home,
                machine,
                asleep: Duration::ZERO,
                process: None,
                started: SystemTime::UNIX_EPOCH,
            });
        }
        // An installation from before is taken over by the first host that leads.
        std::fs::rename(&town.database, hosts[0].folder.join("vetwatch.db")).expect("a database");
        Self {
            network,
            hosts,
            etcd,
            sshd,
            carrier,
            hook_port,
            mail_port,
            etcd_port,
            home: folder.to_owned(),
            follower: None,
            elected: BTreeMap::new(),
            last: town.database.clone(),
        }
    }

    /// Replaces a part of a host's configuration, for its next start.
    pub(super) fn change(&self, host: usize, from: &str, to: &str) {
        let file = self.folder(host).join("vetwatch.toml");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(file, text.replace(from, to)).expect("a configuration");
    }

    /// Lets the replicas' server answer nobody, or everybody again.
    pub(super) fn stop_carrier(&self, stopped: bool) {
        // sshd has a process for each connection.
        self.network.signal(Place::Carrier, if stopped { "STOP" } else { "CONT" });
    }

    /// Starts a host's daemon, in a process group with its Litestream, as a service manager has them in one group.
    pub(super) fn start(&mut self, host: usize) {
        let mut command = self.vetwatch(host);
        let it = &mut self.hosts[host];
        let log = File::options().create(true).append(true).open(&it.log).expect("a log");
        command.envs(it.machine.environment.iter().map(|(key, value)| (key, value)));
        command.arg("run").stdout(Stdio::null()).stderr(log).process_group(0);
        let mark = File::create(it.folder.join("started")).and_then(|file| file.metadata()?.modified());
        it.started = mark.expect("the time of the file system");
        it.process = Some(command.spawn().expect("the daemon"));
    }

    fn vetwatch(&self, host: usize) -> Command {
        let binary = std::env::var_os("VETWATCH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_vetwatch").into());
        let mut command = self.network.command(HOSTS[host], binary.to_str().expect("a path"));
        command.arg("--config").arg(self.folder(host).join("vetwatch.toml")).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("CREDENTIALS_DIRECTORY", &self.home);
        command
    }

    /// A daemon that ended by itself is started again, as a service manager does.
    fn restart_ended(&mut self) {
        for host in 0..2 {
            let ended = self.hosts[host].process.as_mut().is_some_and(|it| it.try_wait().expect("a child").is_some());
            if ended {
                self.start(host);
            }
        }
    }

    fn report(&self, host: usize) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.hosts[host].folder.join("vetwatch.db.standby")).ok()?).ok()
    }

    /// By the file's own time: a host's clock may be wrong.
    fn has_reported(&self, host: usize) -> bool {
        let written =
            std::fs::metadata(self.hosts[host].folder.join("vetwatch.db.standby")).and_then(|it| it.modified());
        written.is_ok_and(|at| at > self.hosts[host].started && at.elapsed().is_ok_and(|it| it.as_secs() < 15))
    }

    fn runs(&self, host: usize) -> bool {
        self.hosts[host].process.is_some()
    }

    /// Waits until a host leads, and says which.
    pub(super) async fn leader(&mut self, within: Duration) -> Leader {
        let end = tokio::time::Instant::now() + within;
        loop {
            self.restart_ended();
            for host in (0..2).filter(|host| self.runs(*host)) {
                let report = self.report(host).unwrap_or_default();
                if report["role"] == "leader" && self.has_reported(host) {
                    let epoch = report["leader"]["epoch"].as_u64().expect("an epoch");
                    let since = *self.elected.entry(epoch).or_insert_with(now);
                    return Leader { host, epoch, since };
                }
            }
            assert!(tokio::time::Instant::now() < end, "no host leads:\n{}", self.said(60));
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until this host leads.
    pub(super) async fn leads(&mut self, host: usize) -> Leader {
        let end = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let leader = self.leader(super::PATIENCE).await;
            if leader.host == host {
                return leader;
            }
            assert!(tokio::time::Instant::now() < end, "{leader:?} still leads:\n{}", self.said(60));
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) fn signal(&self, host: usize, signal: &str, whole_group: bool) {
        let Some(process) = &self.hosts[host].process else { return };
        let target = if whole_group { format!("-{}", process.id()) } else { process.id().to_string() };
        let _ = Command::new("kill").args(["-s", signal, "--", &target]).stderr(Stdio::null()).status();
    }

    pub(super) fn kill(&mut self, host: usize, with_litestream: bool) {
        self.signal(host, "KILL", with_litestream);
        if let Some(mut process) = self.hosts[host].process.take() {
            let _ = process.wait();
        }
    }

    pub(super) fn folder(&self, host: usize) -> &Path {
        &self.hosts[host].folder
    }

    fn database(&self, host: usize) -> PathBuf {
        self.folder(host).join("vetwatch.db")
    }

    fn command(&self, host: usize, arguments: &[&str]) -> Output {
        let mut command = self.vetwatch(host);
        command.args(arguments).output().expect("the program")
    }

    /// Runs a command on a host; returns what it prints as JSON.
    pub(super) fn run(&self, host: usize, arguments: &[&str]) -> Value {
        let output = self.command(host, arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", complaint(&output)))
    }

    /// Runs a command that is refused; returns what it says.
    pub(super) fn refused(&self, host: usize, arguments: &[&str]) -> String {
        let output = self.command(host, arguments);
        assert!(!output.status.success(), "{}", complaint(&output));
        complaint(&output)
    }

    pub(super) async fn rows(&self, host: usize, sql: &str) -> Vec<String> {
        rows(&self.database(host), sql).await
    }

    /// Waits until a host knows that another one leads.
    pub(super) async fn stands_by(&mut self, host: usize) {
        eventually("it stands by", SOON, async || {
            let report = self.report(host).unwrap_or_default();
            let stands_by = report["role"] == "standby" && report["leader"]["host"].is_string();
            if stands_by { Ok(()) } else { Err(format!("{report}\n{}", self.said(20))) }
        })
        .await;
    }

    /// Waits until the second host, as it runs now, says why it could not take over.
    pub(super) async fn could_not_take_over(&mut self) -> String {
        eventually("it could not take over", SOON, async || {
            let status = self.run(1, &["status", "--json"]);
            let is_so = self.has_reported(1) && status["reasons"][0]["reason"] == "no_standby";
            let text = status["reasons"][0]["text"].as_str().unwrap_or_default().to_owned();
            if is_so { Ok(text) } else { Err(status.to_string()) }
        })
        .await
    }

    /// Waits until a host knows that nobody leads.
    pub(super) async fn without_leader(&mut self, host: usize) {
        eventually("nobody leads", SOON, async || {
            let report = self.report(host).unwrap_or_default();
            let is_so = report["role"] == "standby" && report["leader"].is_null() && report["error"].is_string();
            if is_so { Ok(()) } else { Err(report.to_string()) }
        })
        .await;
    }

    /// A host's wall clock is wrong by so many seconds from now on.
    pub(super) fn set_clock(&self, host: usize, seconds: i64) {
        let it = &self.hosts[host];
        it.machine.set_clock(seconds - it.asleep.as_secs().cast_signed());
    }

    /// The clock that counts suspends goes on, and the wall clock is right: it does not sleep in fact, so the other host's and
    /// Partner Center's have not gone on either.
    pub(super) fn suspend(&mut self, host: usize, time: Duration) {
        self.hosts[host].machine.suspend(time);
        self.hosts[host].asleep += time;
        self.set_clock(host, 0);
    }

    /// Waits for a line of a host's log.
    pub(super) async fn says(&mut self, host: usize, text: &str) {
        let log = self.hosts[host].log.clone();
        eventually(text, SOON, async || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains(text) { Ok(()) } else { Err(said) }
        })
        .await;
    }

    /// SIGTERM, and its end in order.
    pub(super) async fn terminate(&mut self, host: usize) {
        if self.runs(host) {
            // One that has just been started does not obey signals yet.
            let is_up = async || if self.has_reported(host) { Ok(()) } else { Err(self.said(20)) };
            eventually("it has begun", SOON, is_up).await;
        }
        self.signal(host, "TERM", false);
        if let Some(mut process) = self.hosts[host].process.take() {
            let ended = async || process.try_wait().expect("a child").ok_or_else(String::new);
            let status = eventually("it ends", SOON, ended).await;
            assert!(status.success(), "{}", self.said(40));
        }
    }

    pub(super) fn stop_elector(&mut self) {
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }

    pub(super) fn start_elector(&mut self) {
        self.etcd = etcd(&self.network, &self.home, self.etcd_port);
    }

    /// Stops a leader's process between two of its transactions, and not its Litestream.
    pub(super) async fn stop_idle(&self, host: usize) {
        loop {
            self.signal(host, "STOP", false);
            let options =
                SqliteConnectOptions::new().filename(self.database(host)).busy_timeout(Duration::from_millis(200));
            let mut other = options.connect().await.expect("a database");
            let is_free = sqlx::query("begin immediate").execute(&mut other).await.is_ok();
            other.close().await.expect("an end");
            if is_free {
                return;
            }
            self.signal(host, "CONT", false);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes rows into the database of a leader that was deposed.
    pub(super) async fn write_as_zombie(&self, host: usize, rows: u32) {
        let mut zombie = SqliteConnectOptions::new().filename(self.database(host)).connect().await.expect("a database");
        for _ in 0..rows {
            let sql = "insert into customer (partner, customer_id, customer_key, source, added_at, next_poll_at)
                       select 1, 'zombie-' || count(*), 'zombie-' || count(*), 'manual', 0, 32503680000000 from customer";
            sqlx::query(sql).execute(&mut zombie).await.expect("a row");
            // Each is replicated by itself: in one path, the higher number of a transaction would win.
            let mut sync = Command::new(litestream());
            sync.args(["sync", "-wait", "-socket"]).arg(self.folder(host).join("vetwatch.db.litestream.sock"));
            let done = sync.arg(self.database(host)).output().expect("litestream");
            assert!(done.status.success(), "{}", complaint(&done));
        }
        zombie.close().await.expect("an end");
    }

    pub(super) async fn zombies(&self, host: usize) -> Vec<String> {
        self.rows(host, "select count(*) from customer where customer_id like 'zombie-%'").await
    }

    /// Starts the script of the page, beside the leader. False without etcdctl.
    pub(super) fn follow(&mut self, town: &DaemonHarness) -> bool {
        let has_etcdctl = Command::new("sh").args(["-c", "command -v etcdctl"]).output();
        if !has_etcdctl.is_ok_and(|found| found.status.success()) {
            return false;
        }
        let page = include_str!("../../../docs/standby.md");
        let (_, script) = page.split_once("```sh\n").expect("a script");
        let (script, _) = script.split_once("```").expect("its end");
        let copies = town.folder.path().join("copies");
        std::fs::create_dir(&copies).expect("a directory");
        let script = script.replace("/srv/vetwatch", &copies.display().to_string());
        let file = town.folder.path().join("follow.sh");
        std::fs::write(&file, script).expect("a file");
        let mut shell = Command::new("sh");
        shell.arg(&file).env("ETCD", format!("https://127.0.0.1:{}", self.etcd_port));
        shell.env("ETCD_CA", self.home.join("certificates/ca.pem"));
        shell.env("REPLICA", format!("file://{}", self.carrier.join("replica").display()));
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", litestream().parent().expect("a folder").display());
        // Where etcd is reached by the certificate's name.
        let mut inside = self.network.command(Place::A, "env");
        inside.args(
            shell.get_envs().map(|(key, value)| format!("{}={}", key.display(), value.expect("a value").display())),
        );
        inside.arg(format!("PATH={path}")).arg("sh").arg(&file).process_group(0);
        let log = File::create(town.folder.path().join("follow.log")).expect("a file");
        self.follower = Some(inside.stdout(Stdio::null()).stderr(log).spawn().expect("a shell"));
        true
    }

    /// Waits until the copy has so many denials.
    pub(super) async fn followed(&self, town: &DaemonHarness, denials: &str) {
        let copy = town.folder.path().join("copies/copy.db");
        let sql = "select count(*) from v_transitions where event_type = 'vetting.denied'";
        eventually("the copy follows", super::PATIENCE, async || {
            let options = SqliteConnectOptions::new().filename(&copy).read_only(true);
            let seen = try_rows(options, sql).await.map_err(|error| error.to_string())?;
            if seen == [denials] { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// Ends both hosts, the leader last.
    pub(super) async fn end_wherever(&mut self, town: &DaemonHarness) {
        let host = self.leader(super::PATIENCE).await.host;
        self.last = self.database(host);
        self.end(town).await;
    }

    /// Lets something happen, and ends it.
    pub(super) async fn have(&mut self, trouble: Trouble, town: &DaemonHarness, rng: &mut Rng, long: bool) {
        let Leader { host, epoch, .. } = self.leader(SOON).await;
        let most = if long { 120 } else { 12 };
        let pause = Duration::from_secs(if rng.bool() { rng.u64(1..=8) } else { rng.u64(1..=most) });
        eprintln!("{}: {} (epoch {epoch}): {trouble:?}, {} s", now(), NAMES[host], pause.as_secs());
        let ours = [HOSTS[host], HOSTS[1 - host]][usize::from(rng.u8(..4) == 0)];
        match trouble {
            Trouble::Cut(place) => {
                self.network.cut(ours, place);
                sleep(pause).await;
            }
            Trouble::Alone => {
                for place in [Place::World, Place::Witness, Place::Carrier] {
                    self.network.cut(HOSTS[host], place);
                }
                sleep(pause).await;
            }
            Trouble::Stop { with_litestream } => {
                self.signal(host, "STOP", with_litestream);
                sleep(pause).await;
                self.signal(host, "CONT", true);
            }
            Trouble::StopBeforeConnecting => {
                let port = if rng.bool() { self.hook_port } else { self.mail_port };
                self.hosts[host].machine.stop_before_connecting_to(port);
                sleep(pause + Duration::from_secs(3)).await;
                self.hosts[host].machine.stop_before_connecting_to(0);
                self.signal(host, "CONT", true);
            }
            Trouble::Kill { with_litestream } => {
                self.kill(host, with_litestream);
                sleep(pause / 4).await;
                self.start(host);
            }
            Trouble::KillWhenTold => {
                let since = now();
                let _ = town.hook.wait_for_those(1, Duration::from_secs(10), |hook| hook.received_at >= since).await;
                self.kill(host, true);
                sleep(pause / 4).await;
                self.start(host);
            }
            Trouble::End => {
                self.terminate(host).await;
                sleep(pause / 4).await;
                self.start(host);
            }
            Trouble::Clock => {
                self.set_clock(host, if rng.bool() { 3600 } else { -3600 });
                sleep(pause).await;
                self.set_clock(host, 0);
            }
            Trouble::Suspend => {
                self.signal(host, "STOP", true);
                sleep(Duration::from_millis(500)).await;
                self.suspend(host, pause * 2);
                self.signal(host, "CONT", true);
            }
            Trouble::SlowCarrier => {
                self.stop_carrier(true);
                sleep(pause.min(Duration::from_secs(20))).await;
                self.stop_carrier(false);
            }
            Trouble::FullCarrier => {
                let filler = self.carrier.join("filler");
                let mut out = File::create(&filler).expect("a file");
                let _ = std::io::copy(&mut std::io::repeat(0), &mut out);
                sleep(pause.min(Duration::from_secs(20))).await;
                std::fs::remove_file(filler).expect("a file");
            }
        }
        self.heal();
        self.delete_old_replicas();
        // One trouble at a time: what was told while the replica failed may be told again if the leader dies before it has it.
        let host = self.leader(super::PATIENCE).await.host;
        eventually("the replica is complete", super::PATIENCE, async || {
            let replica = self.report(host).unwrap_or_default()["replica"].clone();
            if replica["failing_since"].is_null() { Ok(()) } else { Err(replica.to_string()) }
        })
        .await;
    }

    fn delete_old_replicas(&self) {
        let epoch = |path: &PathBuf| path.to_str().and_then(|path| path.rsplit('-').next()?.parse::<u64>().ok());
        let entries = std::fs::read_dir(self.carrier.join("replica")).into_iter().flatten().filter_map(Result::ok);
        let mut replicas: Vec<_> = entries.map(|entry| entry.path()).collect();
        replicas.sort_by_key(epoch);
        for old in replicas.iter().rev().skip(REPLICAS) {
            let _ = std::fs::remove_dir_all(old);
        }
    }

    pub(super) fn heal(&self) {
        self.network.heal();
    }

    /// Waits until the leader has recorded all of this, and nothing waits.
    pub(super) async fn until_idle(&mut self, steps: &[Step]) {
        let end = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let host = self.leader(super::PATIENCE).await.host;
            let database = self.hosts[host].folder.join("vetwatch.db");
            let rows = async |sql: &str| {
                let options = SqliteConnectOptions::new().filename(&database).read_only(true);
                try_rows(options, sql).await.unwrap_or_default()
            };
            let recorded = rows("select count(*) from v_transitions").await;
            let left = rows("select count(*) from delivery where state <> 'delivered'").await;
            if recorded == [steps.len().to_string()] && left == ["0"] {
                self.last = database;
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{recorded:?} of {} recorded, {left:?} not delivered:\n{}",
                steps.len(),
                self.said(40)
            );
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends both hosts in order, and puts the last leader's database where the harness expects it.
    pub(super) async fn end(&mut self, town: &DaemonHarness) {
        for host in 0..2 {
            self.terminate(host).await;
        }
        for suffix in ["", "-wal"] {
            let from = format!("{}{suffix}", self.last.display());
            let _ = std::fs::copy(from, format!("{}{suffix}", town.database.display()));
        }
    }

    /// What the leader has recorded of customers whose steps were not notified.
    pub(super) async fn stood_still(&mut self, missing: &[Step]) -> String {
        let host = self.leader(super::PATIENCE).await.host;
        let recorded = async |step: &Step| {
            let customer = &step.customer;
            let sql = format!(
                "select * from (select * from v_transitions where customer_id = '{customer}' order by transition_id desc limit 5)"
            );
            let transitions = self.rows(host, &sql).await.join("\n");
            let polls = self.rows(host, &format!("select * from customer where customer_id = '{customer}'")).await;
            format!("not notified: {step:?}\n{transitions}\n{polls:?}")
        };
        let first = match missing.first() {
            Some(step) => recorded(step).await,
            None => String::new(),
        };
        format!("{} steps; {first}\n{}", missing.len(), self.said(60))
    }

    /// The newest lines of both hosts.
    pub(super) fn said(&self, lines: usize) -> String {
        let newest = |host: &Host| {
            let text = std::fs::read_to_string(&host.log).unwrap_or_default();
            let all: Vec<_> = text.lines().collect();
            format!("--- {}\n{}\n", host.folder.display(), all[all.len().saturating_sub(lines)..].join("\n"))
        };
        self.hosts.iter().map(newest).collect()
    }
}

/// The most requests that Partner Center was sent in a minute without an election, and in one with an election in it or in the
/// minute before.
pub(super) fn busiest_minutes(town: &DaemonHarness, elections: &[i64]) -> (usize, usize) {
    const MINUTE: i64 = 60_000;
    let times: Vec<i64> = town.sandbox.log(|log| log.after(0).map(|record| record.at.as_millis()).collect());
    let mut most = (0, 0);
    for (n, from) in times.iter().enumerate() {
        let calls = times[n..].iter().take_while(|at| **at < from + MINUTE).count();
        let is_change = elections.iter().any(|at| (from - MINUTE..from + MINUTE).contains(at));
        let of_kind = if is_change { &mut most.1 } else { &mut most.0 };
        *of_kind = calls.max(*of_kind);
    }
    most
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.said(60));
        }
        for host in 0..2 {
            self.kill(host, true);
        }
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        self.network.signal(Place::Carrier, "KILL");
        if let Some(group) = &self.follower {
            let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{}", group.id())]).status();
        }
        if let Some(follower) = &mut self.follower {
            let _ = follower.wait();
        }
        let _ = self.sshd.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.carrier).status();
    }
}

fn certificates(folder: &Path) {
    let root = env!("CARGO_MANIFEST_DIR");
    let made = Command::new(format!("{root}/.venv/bin/python"))
        .arg(format!("{root}/tests/tools/make_certs.py"))
        .arg(folder.join("certificates"))
        .status();
    assert!(made.expect("python").success());
}

fn etcd(network: &Network, folder: &Path, port: u16) -> Child {
    let address = network.address(Place::Witness);
    let mut etcd = network.command(Place::Witness, "etcd");
    etcd.arg("--data-dir").arg(folder.join("etcd"));
    etcd.arg("--listen-client-urls").arg(format!("https://{address}:{port}"));
    etcd.arg("--advertise-client-urls").arg(format!("https://{address}:{port}"));
    etcd.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    etcd.arg("--cert-file").arg(folder.join("certificates/server.pem"));
    etcd.arg("--key-file").arg(folder.join("certificates/server.key"));
    let log = File::create(folder.join("etcd.log")).expect("a file");
    etcd.stdout(Stdio::null()).stderr(log).spawn().expect("etcd")
}

fn sshd(network: &Network, folder: &Path) -> Child {
    for name in ["key", "host-key"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
        assert!(keygen.status().expect("ssh-keygen").success());
    }
    std::fs::create_dir_all("/run/sshd").expect("a directory");
    let text = format!(
        "ListenAddress {}:22\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n\
         PidFile none\nSubsystem sftp internal-sftp\n",
        network.address(Place::Carrier),
        folder.join("host-key").display(),
        folder.join("key.pub").display()
    );
    let file = folder.join("sshd_config");
    std::fs::write(&file, text).expect("a file");
    let mut sshd = network.command(Place::Carrier, "/usr/sbin/sshd");
    let log = File::create(folder.join("sshd.log")).expect("a file");
    sshd.args(["-D", "-e", "-f"]).arg(file).stderr(log).process_group(0);
    sshd.spawn().expect("sshd")
}
