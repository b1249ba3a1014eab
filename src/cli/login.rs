//! `vetwatch login`: signs in a user, in any browser, and stores the refresh token.

use serde_json::json;

use crate::cli::failure::error_chain;
use crate::cli::{Context, Exit, Failure, lookup, privileges, run};
use crate::config::Config;
use crate::daemon::Signals;
use crate::partner_center::{BROWSER_LIFETIME, Error, PartnerSettings, SignInError, SignedIn};
use crate::text;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The partner of the configuration; needed where users sign in for several
    #[arg(value_name = "PARTNER")]
    pub partner: Option<String>,
    /// Sign in with a browser on this machine, instead of a code that is typed on any
    #[arg(long)]
    pub browser: bool,
    /// The port of this machine that the browser is sent back to; without it a free one
    #[arg(long, value_name = "PORT", requires = "browser", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

/// How a person signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Code,
    Browser,
}

pub(super) async fn login(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    let settings = partner(&config, args.partner.as_deref())?;
    let mut signals = Signals::of_program().map_err(|error| run::without_signals(&error))?;
    // The daemon must be able to replace this file.
    privileges::become_owner_of(&config.database)?;
    let way = if args.browser { Way::Browser } else { Way::Code };
    let failed = |error| failure(&settings.name, way, error);
    let signing_in = async {
        match way {
            Way::Code => by_code(context, settings).await,
            Way::Browser => by_browser(context, settings, args.port.unwrap_or(0)).await,
        }
    };
    let signed_in = tokio::select! {
        signed_in = signing_in => signed_in?.map_err(failed)?,
        () = signals.end() => return Err(Failure::new(Exit::Failed, "cancelled; nothing was changed")),
    };
    say(context, settings, &signed_in)
}

type Outcome = Result<SignedIn, SignInError>;

/// A person types a code on any machine.
async fn by_code(context: &Context, settings: &PartnerSettings) -> Result<Outcome, Failure> {
    let (device, prompt) = match settings.device_login(context.clock.clone()).await {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(error)),
    };
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
    Ok(device.wait().await)
}

/// A browser on this machine, or on one that forwards the port, is sent back to vetwatch.
async fn by_browser(context: &Context, settings: &PartnerSettings, port: u16) -> Result<Outcome, Failure> {
    let (browser, url) = match settings.browser_login(port, context.clock.clone()).await {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(error)),
    };
    let port = browser.port();
    if context.json {
        let prompt = json!({
            "partner": settings.name, "url": url, "port": port, "expires_in_s": BROWSER_LIFETIME.as_secs(),
        });
        context.out.line(&text::inert_json(&prompt.to_string()))?;
    } else {
        context.out.line(&format!(
            "To sign in for {}, open this address in a browser on this machine, within {}:\n\n{url}\n\n\
             Sign in as an Admin Agent, with a second factor. Ctrl-C gives up.\n\
             If your browser is on another machine, forward the port from there first: ssh -L {port}:127.0.0.1:{port} \
             THIS-MACHINE (--port PORT takes the same one each time).",
            settings.name,
            humantime::format_duration(BROWSER_LIFETIME),
        ))?;
    }
    Ok(browser.wait(BROWSER_LIFETIME).await)
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

fn failure(partner: &str, way: Way, error: SignInError) -> Failure {
    let what = format!("nobody is signed in for {partner}");
    let again = "nothing was changed; `vetwatch login` begins anew";
    let other =
        format!("Conditional Access often blocks device codes: `vetwatch login {partner} --browser` needs none");
    match error {
        SignInError::Refused(error) => {
            let is_blocked = matches!(&error, Error::Credential(answer) if answer.is_blocked_by_policy());
            let failure = Failure::new(Exit::from(&error), what).because(error_chain(&error));
            if is_blocked && way == Way::Code { failure.advise(other) } else { failure }
        }
        SignInError::Expired if way == Way::Code => {
            let advice = format!("{again}. If the browser said that access is blocked (53003 and the like): {other}");
            Failure::new(Exit::TryAgain, what).because("the code has expired").advise(advice)
        }
        SignInError::Expired => Failure::new(Exit::TryAgain, what)
            .because(format!("the browser did not come back within {}", humantime::format_duration(BROWSER_LIFETIME)))
            .advise(format!(
                "{again}. If it showed an error of its own: AADSTS50011 means that the application lacks the redirect URI \
                 http://localhost (Entra ID: Authentication, platform Web). On another machine, the port must be forwarded"
            )),
        SignInError::Listen { .. } => Failure::new(Exit::Failed, what)
            .because(error_chain(&error))
            .advise("another program may have the port: without --port a free one is taken"),
        SignInError::SentBack(_) => Failure::new(Exit::Refused, what).because(error_chain(&error)).advise(again),
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
