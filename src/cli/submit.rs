//! `vetwatch submit`: submits a qualification to Microsoft for review, and records that its verdict is expected.

mod args;

use std::io::{self, BufRead, IsTerminal as _, Write};
use std::sync::Arc;

use serde_json::json;

pub(super) use self::args::Args;
use self::args::{submission, with_code_from_stdin};
use crate::changes::QualificationState;
use crate::cli::failure::error_chain;
use crate::cli::lookup::{self, Customer, Scope};
use crate::cli::{Context, Exit, Failure, backoff, run, time_args};
use crate::config::Config;
use crate::partner_center::{Error, NotSubmitted, PartnerCenter, PartnerSettings, Submission, Submitted};
use crate::qualification::{Entry, Status, Verdict, key};
use crate::recording::{self, Recorded, Recorder};
use crate::store::{CustomerId, Expected, Store};
use crate::text;

/// Microsoft accepts this many submissions of a customer's Education.
const EDUCATION_ATTEMPTS: u32 = 3;

/// What will be sent, and its customer.
struct Plan<'a> {
    customer: &'a Customer,
    /// The customer's row.
    row: CustomerId,
    submission: &'a Submission,
    /// The stored state, if there is one.
    state: Option<QualificationState>,
    /// The entries of other qualifications that Microsoft does not accept this one beside.
    conflicts: Vec<Entry>,
}

impl Plan<'_> {
    fn attempt(&self) -> u32 {
        self.state.as_ref().map_or(0, |state| state.review.attempt) + 1
    }

    fn is_education(&self) -> bool {
        matches!(self.submission, Submission::Education { .. })
    }

    fn attempt_in_words(&self) -> String {
        let of = if self.is_education() { format!(" of {EDUCATION_ATTEMPTS}") } else { String::new() };
        format!("{}{of}, as far as vetwatch saw", self.attempt())
    }

    fn status_text(&self) -> &str {
        let entry = self.state.as_ref().and_then(|state| state.entry.as_ref());
        entry.map_or("none that vetwatch saw", |entry| {
            entry.vetting_status.as_deref().unwrap_or("held, without a status")
        })
    }
}

pub(super) async fn submit(context: &Context, args: Args) -> Result<Exit, Failure> {
    let submission = submission(&args)?;
    let asks = !args.yes;
    if asks && !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "nothing was sent: there is no terminal to ask on")
            .advise("`--yes` submits without asking"));
    }
    let submission = with_code_from_stdin(&args, submission)?;
    let config = context.config()?;
    lookup::check_partner(&config, args.partner.as_deref())?;
    let store = context.existing_store(&config.database).await?;
    let named = [args.customer.clone()];
    let customers = lookup::customers(&store, &named, args.partner.as_deref(), Scope::Watched).await?;
    let [customer] = customers.as_slice() else {
        return Err(Failure::new(Exit::NotFound, "no customer is named"));
    };
    let user = as_user(&config, &customer.partner)?;
    let Some(row) = customer.watched else {
        return Err(Failure::new(Exit::NotFound, format!("{} is not watched", customer.label())));
    };
    let states = store.begin().await?.states(row).await?;
    let wanted = key(submission.qualification());
    let conflicts = conflicts(&submission, &states);
    let state = states.into_iter().find(|state| key(&state.qualification) == wanted);
    let plan = Plan { customer, row, submission: &submission, state, conflicts };
    refuse_in_vain(&plan, args.force)?;
    let confirm = |plan| confirmed(plan, &mut io::stdin().lock(), &mut io::stderr());
    if asks && !confirm(&plan).map_err(|error| Failure::new(Exit::Failed, "cannot ask").because(error.to_string()))? {
        return Err(Failure::new(Exit::Failed, "nothing was sent").because("you did not say yes"));
    }
    send(context, &config, &store, user, &plan).await
}

/// The other entries that a submission contradicts. `GovernmentCommunityCloud` is documented for a customer without a
/// qualification, and cannot be combined with Education. A denied entry is no qualification.
fn conflicts(submission: &Submission, states: &[QualificationState]) -> Vec<Entry> {
    let wanted = key(submission.qualification());
    let contradicts = |other: &str| match submission {
        Submission::GovernmentCommunityCloud { .. } => other != wanted,
        Submission::Education { .. } => other == "governmentcommunitycloud",
        Submission::StateOwnedEntity => false,
    };
    let held = states.iter().filter(|state| state.status() != Some(Status::Verdict(Verdict::Denied)));
    held.filter(|state| contradicts(&key(&state.qualification))).filter_map(|state| state.entry.clone()).collect()
}

/// Only a user may submit.
fn as_user(config: &Config, partner: &str) -> Result<PartnerSettings, Failure> {
    let settings = config.partners.iter().find(|settings| settings.name == partner).ok_or_else(|| {
        Failure::new(Exit::Configuration, format!("the partner \"{partner}\" is not in the configuration any more"))
    })?;
    settings.as_user().ok_or_else(|| {
        Failure::new(Exit::Configuration, format!("nothing was sent: no user is configured for {partner}"))
            .because("only a user may submit (App+User)")
            .advise(
                "give the partner `[partner.user_credential]` with `kind = \"refresh-token\"`, and sign in with \
                 `vetwatch login`",
            )
    })
}

/// Refuses a submission that would be wasted.
fn refuse_in_vain(plan: &Plan<'_>, force: bool) -> Result<(), Failure> {
    let (customer, name) = (plan.customer.label(), plan.submission.qualification());
    if plan.customer.paused {
        return Err(Failure::new(Exit::Failed, format!("nothing was sent: {customer} is paused"))
            .because("nobody would see the outcome")
            .advise(format!("`vetwatch customers resume {}` goes on with it", plan.customer.id)));
    }
    if force {
        return Ok(());
    }
    if plan.state.as_ref().and_then(QualificationState::status) == Some(Status::InReview) {
        return Err(Failure::new(Exit::Failed, format!("nothing was sent: {name} of {customer} is in review"))
            .because("another submission would change nothing, and may cost one of the attempts")
            .advise("wait for the verdict, which is told; `--force` submits all the same"));
    }
    if let Some(entry) = plan.conflicts.first() {
        let status = entry.vetting_status.as_deref().unwrap_or("held");
        let why = match plan.submission {
            Submission::GovernmentCommunityCloud { .. } => {
                "Microsoft documents it for customers without a qualification"
            }
            _ => "Microsoft does not combine the two",
        };
        let what = format!(
            "nothing was sent: {customer} has {} ({status}), and {name} does not go with it",
            entry.qualification
        );
        return Err(Failure::new(Exit::Failed, what).because(why).advise(format!(
            "`vetwatch poll {}` shows what the customer holds now; `--force` submits all the same",
            plan.customer.id
        )));
    }
    if plan.is_education() && plan.attempt() > EDUCATION_ATTEMPTS {
        return Err(Failure::new(
            Exit::Failed,
            format!("nothing was sent: {customer} has used all {EDUCATION_ATTEMPTS} attempts"),
        )
        .because(format!("this would be attempt {}", plan.attempt_in_words()))
        .advise("Microsoft's support can verify by hand; `--force` submits all the same"));
    }
    Ok(())
}

/// Shows what will be sent, and asks for confirmation.
fn confirmed(plan: &Plan<'_>, answers: &mut impl BufRead, shown: &mut impl Write) -> io::Result<bool> {
    let Plan { customer, submission, .. } = plan;
    let mut lines = vec![
        ("customer", customer.label().to_owned()),
        ("id", format!("{} ({})", customer.id, customer.partner)),
        ("qualification", format!("{}, now: {}", submission.qualification(), plan.status_text())),
        ("attempt", plan.attempt_in_words()),
    ];
    if let Submission::Education { segment, website } = submission {
        lines.push(("segment", segment.as_str().to_owned()));
        lines.push(("website", website.clone().unwrap_or_else(|| "none".to_owned())));
    }
    for (name, value) in lines {
        writeln!(shown, "{name:>15}  {}", text::terminal(&value))?;
    }
    write!(shown, "Submit this to Microsoft? [y/N] ")?;
    shown.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn send(
    context: &Context,
    config: &Config,
    store: &Store,
    user: PartnerSettings,
    plan: &Plan<'_>,
) -> Result<Exit, Failure> {
    let parts = context.assemble(config, store).await?;
    let part = parts.partners.into_iter().find(|part| part.poller.partner.name == user.name);
    let poller = part.ok_or_else(|| Failure::new(Exit::Configuration, "the partner is not configured"))?.poller;
    let what = format!("nothing was sent: {} is left alone for now", user.name);
    let backoffs = backoff::wait(context, &poller, what, "submit again then").await?;
    let client = PartnerCenter::new(user, Arc::clone(&poller.budget), context.clock.clone())
        .map_err(|error| run::failure(error.into()))?;
    // Recorded first: if this process dies, the customer is polled.
    let recorder = Recorder {
        store,
        partner: &poller.partner,
        routes: &poller.routes,
        intervals: &poller.intervals,
        calendar: &poller.reminders.calendar,
    };
    let expected = recorder.submission_started(plan.row, context.now()).await?;
    let expected = expected.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("nothing was sent: {} was removed meanwhile", plan.customer.label()))
    })?;
    let qualification = plan.submission.qualification();
    match client.submit(&plan.customer.id, plan.submission).await {
        Ok(submitted) => {
            let answer = (submitted.answer.as_ref(), submitted.ended_at);
            let accepted = recorder.submission_accepted(&expected, qualification, answer);
            let outcome = accepted.await.map_err(|error| {
                let why = error_chain(&error);
                // Not 75: a script would submit again, and that may cost an attempt.
                Failure { exit: Exit::Failed, why: Some(why), ..error.into() }
                    .advise("Microsoft took the submission: do not submit again; its outcome will be told")
            })?;
            say(context, plan, &submitted, &outcome)
        }
        Err(error) => {
            backoff::start(context, &poller, backoffs, &error.error).await?;
            Err(failed(context, store, plan, &expected, &error).await?)
        }
    }
}

fn say(context: &Context, plan: &Plan<'_>, submitted: &Submitted, recorded: &Recorded) -> Result<Exit, Failure> {
    let (customer, name) = (plan.customer, plan.submission.qualification());
    let entry = submitted.answer.as_ref().and_then(|answer| answer.snapshot.get(&key(name)));
    let status = entry.and_then(|entry| entry.vetting_status.as_deref());
    let attempt = recorded.changes.first().map_or_else(|| plan.attempt(), |(change, _)| change.review.attempt);
    if context.json {
        context.out.json(&json!({
            "partner": customer.partner,
            "customer": { "id": customer.id, "name": customer.name },
            "qualification": name,
            "submitted": true,
            "attempt": attempt,
            "answer_understood": entry.is_some(),
            "vetting_status": status,
            "vetting_created_at": entry.and_then(|entry| entry.created_at),
            "request_id": submitted.request_id,
            "correlation_id": submitted.correlation_id,
        }))?;
        return Ok(Exit::Done);
    }
    let status_text = match (entry, status) {
        (Some(entry), Some(status)) => {
            let since = entry.created_at.map(|at| format!(" since {}", time_args::minute(at)));
            format!("It is {}{} now.", text::terminal(status), since.unwrap_or_default())
        }
        (Some(_), None) => "It is held now, without a status.".to_owned(),
        (None, _) => "The answer did not say how it stands; vetwatch looks soon.".to_owned(),
    };
    context.out.line(&format!(
        "Microsoft took the submission: {name} of {}. {status_text}\nThe outcome is told when Microsoft decides; the \
         correlation id is {}.",
        text::terminal(customer.label()),
        submitted.correlation_id
    ))?;
    Ok(Exit::Done)
}

/// The failure for a submission that was rejected, or has an unknown outcome.
async fn failed(
    context: &Context,
    store: &Store,
    plan: &Plan<'_>,
    expected: &Expected,
    error: &NotSubmitted,
) -> Result<Failure, Failure> {
    let (customer, name) = (plan.customer, plan.submission.qualification());
    if error.may_have_arrived {
        // Not 75: a script would submit again, and that may cost an attempt.
        let unclear = recording::submission::outcome_unknown(store, expected, name, context.now()).await;
        unclear.map_err(|error| {
            Failure { exit: Exit::Failed, ..error.into() }
                .advise("the submission may have arrived: do not submit again; its outcome is told all the same")
        })?;
        let what = format!("nobody knows whether Microsoft took the submission of {name} for {}", customer.label());
        return Ok(Failure::new(Exit::Failed, what).because(error_chain(&error.error)).advise(format!(
            "it may have arrived, and nothing is sent again by itself; `vetwatch poll {}` shows it, and the outcome is \
             told",
            customer.id
        )));
    }
    recording::submission::rejected(store, expected).await?;
    let what = format!("{name} of {} was not submitted", customer.label());
    let failure = Failure::new(Exit::from(&error.error), what).because(error_chain(&error.error));
    Ok(match (error.remedy(), &error.error) {
        (Some(remedy), _) => failure.advise(remedy),
        (None, Error::Throttled { .. }) => {
            failure.advise("Partner Center is left alone for a while; submit again then")
        }
        (None, _) => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partner_center::Segment;

    #[test]
    fn a_person_sees_what_is_sent_and_only_a_yes_sends_it() {
        let customer = Customer {
            partner: "emea".into(),
            id: "c-1".into(),
            key: "c-1".into(),
            name: "Contoso\u{1b}[2J School".into(),
            rows: vec![CustomerId(1)],
            watched: Some(CustomerId(1)),
            paused: false,
        };
        let submission = Submission::Education { segment: Segment::K12, website: Some("contoso.edu".into()) };
        let plan = Plan {
            customer: &customer,
            row: CustomerId(1),
            submission: &submission,
            state: None,
            conflicts: Vec::new(),
        };
        let ask = |answer: &str| {
            let mut shown = Vec::new();
            let yes = confirmed(&plan, &mut answer.as_bytes(), &mut shown).unwrap();
            (yes, String::from_utf8(shown).unwrap())
        };
        insta::assert_snapshot!(ask("y\n").1, @r"
               customer  Contoso�[2J School
                     id  c-1 (emea)
          qualification  Education, now: none that vetwatch saw
                attempt  1 of 3, as far as vetwatch saw
                segment  K12
                website  contoso.edu
        Submit this to Microsoft? [y/N] 
        ");
        for (answer, yes) in
            [("y\n", true), (" YES \n", true), ("\n", false), ("n\n", false), ("", false), ("yep\n", false)]
        {
            assert_eq!(ask(answer).0, yes, "{answer:?}");
        }
    }
}
