//! What goes wrong for a while, and is drawn by chance.

use std::time::Duration;

use fastrand::Rng;
use nix::errno::Errno;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, query};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Kind, Options, QuirkRule};

use super::Chaos;
use super::machine::calls::{READ, RESIZE, SYNC, WRITE};

/// Where something goes wrong: one thing at a time in each place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Api,
    Drip,
    Token,
    Smtp,
    Hook,
    Disk,
    Lock,
    Clock,
    Stop,
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) place: Place,
    pub(super) until: Instant,
    /// Faults and quirks of the sandbox.
    rules: Vec<u64>,
    /// Holds the database.
    holder: Option<JoinHandle<()>>,
}

const STAGES: [Stage; 6] = [Stage::Greeting, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message];

fn api_fault(rng: &mut Rng) -> Fault {
    let faults = [
        Fault::status(401),
        Fault::status(403),
        Fault::status(404),
        Fault::throttled(Duration::from_secs(90)),
        Fault::throttled_with_a_date(Duration::from_secs(57)),
        Fault::status(500),
        Fault::status(503),
        Fault::Hang,
        Fault::Delay { by: Duration::from_millis(400), stale: false },
        Fault::Cut,
        Fault::Close,
        Fault::Reset,
        Fault::Garbage,
        Fault::Empty,
        Fault::Null,
        Fault::Object,
        Fault::Html,
        Fault::Endless,
        Fault::Bomb,
    ];
    rng.choice(faults).expect("a fault")
}

fn smtp_fault(rng: &mut Rng) -> MailRule {
    let stage = rng.choice(STAGES).expect("a stage");
    let reply = |text: &str| SmtpAction::Reply(text.to_owned());
    let acts = [
        reply("421 4.3.2 closing"),
        reply("451 4.7.1 later"),
        reply("550 5.1.1 no such mailbox"),
        reply("554 5.7.1 refused"),
        SmtpAction::Hang,
        SmtpAction::Close,
        SmtpAction::Reset,
        SmtpAction::Delay(Duration::from_millis(300)),
        SmtpAction::TakeThenHang,
        SmtpAction::TakeThenClose,
    ];
    let last = if stage == Stage::Message { acts.len() } else { acts.len() - 2 };
    let rule = MailRule::at(stage, acts[rng.usize(..last)].clone());
    if rng.bool() { rule.to("boss@contoso.example") } else { rule }
}

fn hook_fault(rng: &mut Rng) -> WebhookAction {
    let acts = [
        WebhookAction::status(400),
        WebhookAction::status(404),
        WebhookAction::status(410),
        WebhookAction::with_header(429, "Retry-After", "60"),
        WebhookAction::with_header(302, "Location", "http://127.0.0.1:1/"),
        WebhookAction::status(500),
        WebhookAction::with_header(503, "Retry-After", "120"),
        WebhookAction::Delay(Duration::from_millis(300)),
        WebhookAction::Hang,
        WebhookAction::CloseBefore,
        WebhookAction::CloseAfter,
        WebhookAction::ResetAfter,
    ];
    rng.choice(acts).expect("an action")
}

impl Chaos {
    /// Something goes wrong here for a while, unless something does already.
    pub(super) async fn begin(&mut self, place: Place) {
        // Mostly short; some outlast the time after which vetwatch tells of them.
        let time = match self.rng.u8(..40) {
            0 => Duration::from_secs(self.rng.u64(75..90)),
            1..5 => Duration::from_secs(self.rng.u64(6..20)),
            _ => Duration::from_millis(self.rng.u64(200..5000)),
        };
        let (mut rules, mut holder) = (Vec::new(), None);
        let is_taken = self.troubles.iter().any(|known| known.place == place);
        let short = time.min(Duration::from_secs(10));
        let mut until = Instant::now() + time;
        let about = match place {
            Place::Api => {
                let (fault, share) = (api_fault(&mut self.rng), self.rng.u8(..4));
                let is_down = self.rng.u8(..8) == 0;
                if is_taken {
                    return;
                }
                if is_down {
                    self.town.sandbox.stop().await.expect("a stop");
                    "refuses connections".to_owned()
                } else {
                    let rule = FaultRule::on(Kind::Qualifications, fault.clone());
                    let rule = if share == 0 { rule } else { rule.share(f64::from(share) * 0.3) };
                    rules.push(self.town.sandbox.fault(rule));
                    format!("{fault:?} for {} %", if share == 0 { 100 } else { share * 30 })
                }
            }
            Place::Drip => {
                let drip =
                    json!({ "quirk": "sending", "on": "qualifications", "share": 0.5, "drip": 3, "every": "5ms" });
                if is_taken {
                    return;
                }
                rules.push(self.town.sandbox.quirk(serde_json::from_value::<QuirkRule>(drip).expect("a quirk")));
                "answers drip".to_owned()
            }
            Place::Token => {
                let (kind, fault) = (self.rng.u8(..4), api_fault(&mut self.rng));
                if is_taken {
                    return;
                }
                self.town.sandbox.revoke_tokens();
                match kind {
                    0 => {
                        self.town.sandbox.expire_client_secret();
                        "the secret expires".to_owned()
                    }
                    1 => {
                        rules.push(self.town.sandbox.fault(FaultRule::on(Kind::Token, fault.clone())));
                        format!("tokens are revoked, and {fault:?}")
                    }
                    _ => "tokens are revoked".to_owned(),
                }
            }
            Place::Smtp => {
                let (rule, is_down) = (smtp_fault(&mut self.rng), self.rng.u8(..8) == 0);
                if is_taken {
                    return;
                }
                if is_down {
                    self.town.mail.stop().await.expect("a stop");
                    "refuses connections".to_owned()
                } else {
                    self.town.mail.script(rule.clone());
                    format!("{:?} at {:?} to {:?}", rule.act, rule.stage, rule.recipient)
                }
            }
            Place::Hook => {
                let (act, times, is_down) = (hook_fault(&mut self.rng), self.rng.u64(1..20), self.rng.u8(..8) == 0);
                if is_taken {
                    return;
                }
                if is_down {
                    self.town.hook.stop().await.expect("a stop");
                    "refuses connections".to_owned()
                } else {
                    self.town.hook.script(act.clone(), (times < 8).then_some(times));
                    format!("{act:?}, {} times", if times < 8 { times.to_string() } else { "all".into() })
                }
            }
            Place::Disk => {
                let full = self.rng.bool();
                let which = self.rng.choice([WRITE | RESIZE, WRITE | RESIZE | SYNC, SYNC, READ, READ | WRITE]);
                let share = self.rng.choice([0.01, 0.1, 1.0]).expect("a share");
                if is_taken {
                    return;
                }
                let (error, which) =
                    if full { (Errno::ENOSPC, WRITE | RESIZE) } else { (Errno::EIO, which.expect("calls")) };
                until = Instant::now() + short;
                self.machine.fail(error, which, share);
                format!("{error:?} of calls {which:#06b}, {share}")
            }
            Place::Lock => {
                if is_taken {
                    return;
                }
                until = Instant::now() + short;
                let database = SqliteConnectOptions::new().filename(&self.town.database).create_if_missing(false);
                holder = Some(tokio::spawn(async move {
                    let Ok(mut holder) = database.connect().await else { return };
                    if query("begin immediate").execute(&mut holder).await.is_ok() {
                        std::future::pending::<()>().await;
                    }
                }));
                "another process holds the database".to_owned()
            }
            Place::Clock => {
                let by = self.rng.i64(1..18_000) * if self.rng.bool() { 1 } else { -1 };
                if is_taken {
                    return;
                }
                self.machine.set_clock(by);
                format!("is wrong by {by} s")
            }
            Place::Stop => {
                let hours = self.rng.u64(..20);
                let (Some(daemon), false) = (&self.daemon, is_taken) else { return };
                until = Instant::now() + short.min(Duration::from_secs(3));
                daemon.signal("STOP");
                if hours > 10 {
                    self.machine.suspend(Duration::from_hours(hours));
                }
                format!("SIGSTOP, suspended for {hours} h if more than 10")
            }
        };
        self.say(&format!("{place:?}: {about}, for {:.1} s", (until - Instant::now()).as_secs_f32()));
        self.count(&format!("{place:?}"));
        self.troubles.push(Trouble { place, until, rules, holder });
    }

    pub(super) async fn end(&mut self, trouble: Trouble) {
        let town = &self.town;
        match trouble.place {
            Place::Api => town.sandbox.start_again().await.expect("a port"),
            Place::Drip => {}
            // Dropped, its connection rolls back.
            Place::Lock => trouble.holder.into_iter().for_each(|holder| holder.abort()),
            Place::Token => town.sandbox.set_client_secret(&Options::default().client_secret),
            Place::Smtp => {
                town.mail.clear_script();
                town.mail.start_again().await.expect("a port");
            }
            Place::Hook => {
                town.hook.clear_script();
                town.hook.start_again().await.expect("a port");
            }
            Place::Disk => self.machine.mend(),
            Place::Clock => self.machine.set_clock(0),
            Place::Stop => {
                if let Some(daemon) = &self.daemon {
                    daemon.signal("CONT");
                }
            }
        }
        for rule in trouble.rules {
            match trouble.place {
                Place::Drip => drop(town.sandbox.end_quirk(rule)),
                _ => drop(town.sandbox.release(rule)),
            }
        }
        self.say(&format!("{:?}: over", trouble.place));
        // What a person does about it.
        if matches!(trouble.place, Place::Smtp | Place::Hook) {
            self.redrive().await;
        }
    }

    /// Ends what is over by now.
    pub(super) async fn end_those(&mut self, over: impl Fn(&Trouble) -> bool) {
        while let Some(at) = self.troubles.iter().position(&over) {
            let trouble = self.troubles.remove(at);
            self.end(trouble).await;
        }
    }
}
