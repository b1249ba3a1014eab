//! The arguments of `vetwatch submit`, and whether they fit together.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use secrecy::SecretString;

use crate::cli::{Exit, Failure};
use crate::partner_center::{Segment, Submission};
use crate::qualification::key;

/// Longer than any code or address.
const VALUE_MAX_CHARS: usize = 500;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A tenant id, a domain or a name
    #[arg(value_name = "CUSTOMER")]
    pub customer: String,
    /// `Education`, `GovernmentCommunityCloud` or `StateOwnedEntity`
    #[arg(value_name = "QUALIFICATION")]
    pub qualification: String,
    /// For Education: `K12` or `HigherEducation`
    #[arg(long, value_name = "SEGMENT")]
    pub segment: Option<String>,
    /// For Education: the institution's website; optional, and speeds up the review
    #[arg(long, value_name = "URL")]
    pub website: Option<String>,
    /// For `GovernmentCommunityCloud`; `-` reads it from standard input
    #[arg(long, value_name = "CODE", allow_hyphen_values = true)]
    pub validation_code: Option<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// Submit even if all three attempts were seen, a review is in progress, or another qualification stands against it
    #[arg(long)]
    pub force: bool,
    /// Send without confirmation
    #[arg(long)]
    pub yes: bool,
}

/// The submission that the arguments describe.
///
/// # Errors
/// [`Exit::Usage`] if they contradict each other.
pub(super) fn submission(args: &Args) -> Result<Submission, Failure> {
    let usage = |what: &str| Failure::new(Exit::Usage, what.to_owned());
    let blank = |text: &Option<String>| text.as_ref().is_some_and(|text| !is_plain(text));
    if blank(&args.website) || blank(&args.validation_code) {
        return Err(usage("a website and a validation code are one word of at most 500 characters"));
    }
    let submission = match key(&args.qualification).as_str() {
        "education" => {
            let segment = match args.segment.as_deref().map(key).as_deref() {
                Some("k12") => Segment::K12,
                Some("highereducation") => Segment::HigherEducation,
                Some(_) => return Err(usage("a segment is K12 or HigherEducation")),
                None => return Err(usage("Education needs a segment: --segment K12 or --segment HigherEducation")),
            };
            Submission::Education { segment, website: args.website.clone() }
        }
        "governmentcommunitycloud" => {
            let code = args.validation_code.clone().ok_or_else(|| {
                usage("GovernmentCommunityCloud needs a validation code: --validation-code CODE")
                    .advise("`vetwatch validation-codes` shows those there are")
            })?;
            Submission::GovernmentCommunityCloud { validation_code: code.into() }
        }
        "stateownedentity" => Submission::StateOwnedEntity,
        _ => {
            return Err(usage(&format!("\"{}\" cannot be submitted", args.qualification))
                .because("only Education, GovernmentCommunityCloud and StateOwnedEntity can be"));
        }
    };
    let is_education = matches!(submission, Submission::Education { .. });
    let is_government = matches!(submission, Submission::GovernmentCommunityCloud { .. });
    let name = submission.qualification();
    for (option, is_given, fits) in [
        ("--segment", args.segment.is_some(), is_education),
        ("--website", args.website.is_some(), is_education),
        ("--validation-code", args.validation_code.is_some(), is_government),
    ] {
        if is_given && !fits {
            return Err(usage(&format!("{option} does not belong to {name}")));
        }
    }
    Ok(submission)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= VALUE_MAX_CHARS && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Replaces `-` by the code from standard input.
pub(super) fn with_code_from_stdin(args: &Args, submission: Submission) -> Result<Submission, Failure> {
    if args.validation_code.as_deref() != Some("-") {
        return Ok(submission);
    }
    if io::stdin().is_terminal() {
        // Without a visible prompt the code can still be entered.
        let _ = write!(io::stderr(), "Validation code: ");
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| {
        Failure::new(Exit::Failed, "cannot read the validation code from standard input").because(error.to_string())
    })?;
    let code = line.trim();
    if !is_plain(code) {
        return Err(Failure::new(Exit::Usage, "standard input holds no validation code in its first line"));
    }
    Ok(Submission::GovernmentCommunityCloud { validation_code: SecretString::from(code) })
}
