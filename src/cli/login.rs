//! `vetwatch login`: signs in a user, in any browser, and stores the refresh token.

use serde_json::json;

use crate::cli::failure::error_chain;
use crate::cli::{Context, Exit, Failure, lookup, privileges, run};
use crate::config::Config;
use crate::daemon::Signals;
use crate::partner_center::{PartnerSettings, SignInError, SignedIn};
use crate::text;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The partner of the configuration; needed where users sign in for several
    #[arg(value_name = "PARTNER")]
    pub partner: Option<String>,
}

pub(super) async fn login(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    let settings = partner(&config, args.partner.as_deref())?;
    let mut signals = Signals::of_program().map_err(|error| run::without_signals(&error))?;
    // The daemon must be able to replace this file.
    privileges::become_owner_of(&config.database)?;
    let failed = |error| failure(&settings.name, error);
    let begin = settings.device_login(context.clock.clone());
    let (device, prompt) = begin.await.map_err(failed)?;
    if context.json {
        context.out.line(&text::inert_json(
            &json!({
                "partner": settings.name, "url": prompt.url, "code": prompt.code, "expires_in_s": prompt.life.as_secs(),
            })
            .to_string(),
        ))?;
    } else {
        context.out.line(&format!(
            "To sign in for {}, open {} in a browser, on any machine, and type the code {}\n\
             The code is good for {}. Sign in as an Admin Agent, with a second factor. Ctrl-C gives up.",
            settings.name,
            text::terminal(&prompt.url),
            context.out.style.heading(&text::terminal(&prompt.code)),
            humantime::format_duration(prompt.life),
        ))?;
    }
    let signed_in = tokio::select! {
        signed_in = device.wait() => signed_in.map_err(failed)?,
        () = signals.next() => return Err(Failure::new(Exit::Failed, "cancelled; nothing was changed")),
    };
    say(context, settings, &signed_in)
}

fn say(context: &Context, settings: &PartnerSettings, signed_in: &SignedIn) -> Result<Exit, Failure> {
    let SignedIn { user, mfa } = signed_in;
    let ends_at = settings.as_user().and_then(|settings| settings.credential.refresh_token_ends_at());
    if context.json {
        let result = json!({
            "partner": settings.name, "signed_in": true, "user": user, "mfa": mfa, "refresh_token_ends_at": ends_at,
        });
        context.out.line(&text::inert_json(&result.to_string()))?;
    } else {
        let user = user.as_deref().map(|user| format!(" as {}", text::terminal(user))).unwrap_or_default();
        context.out.line(&format!(
            "Signed in{user}. A running daemon goes on with it within a quarter of an hour, and renews it from then \
             on; left unused, it ends after 90 days."
        ))?;
        if *mfa == Some(false) {
            context.out.line(
                "Warning: this was without a second factor. Partner Center refuses users without one: require it of \
                 this user in Entra ID, and sign in again.",
            )?;
        }
    }
    Ok(Exit::Done)
}

/// The named partner, or the only one with a user's credential.
fn partner<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c PartnerSettings, Failure> {
    lookup::check_partner(config, name)?;
    let named = config.partners.iter().filter(|partner| name.is_none_or(|name| name == partner.name));
    let of_users: Vec<_> = named.filter(|partner| partner.as_user().is_some()).collect();
    match of_users.as_slice() {
        [partner] => Ok(partner),
        [] => {
            let who = name.map_or_else(|| "any partner".into(), text::terminal);
            Err(Failure::new(Exit::Configuration, format!("no user signs in for {who}"))
                .because("the configuration has no refresh token there")
                .advise(
                    "reading needs no user; for what does, give the partner `[partner.user_credential]` with \
                     `kind = \"refresh-token\"`",
                ))
        }
        several => Err(Failure::new(Exit::Usage, "users sign in for several partners")
            .listing(several.iter().map(|partner| partner.name.clone()))
            .advise("name one: `vetwatch login PARTNER`")),
    }
}

fn failure(partner: &str, error: SignInError) -> Failure {
    let what = format!("nobody is signed in for {partner}");
    let again = "nothing was changed; `vetwatch login` begins anew";
    match error {
        SignInError::Refused(error) => Failure::new(Exit::from(&error), what).because(error_chain(&error)),
        SignInError::Expired => Failure::new(Exit::TryAgain, what).because("the code has expired").advise(again),
        SignInError::Declined => Failure::new(Exit::Refused, what).because("it was declined").advise(again),
        SignInError::NoRefreshToken => Failure::new(Exit::Refused, what)
            .because("the login server gave no refresh token")
            .advise("does the application have the permission `offline_access`, and may users consent to it?"),
        SignInError::Store { .. } => Failure::new(Exit::Failed, what)
            .because(error_chain(&error))
            .advise("the directory is the service's, with mode 0700: run this as root, or as the service's user"),
        SignInError::NoUser | SignInError::Setup(_) => Failure::new(Exit::Failed, what).because(error_chain(&error)),
    }
}
