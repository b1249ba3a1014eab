//! `vetwatch feeds`: the addresses of the feeds. They hold a secret if the page needs a token, so nothing else shows them.

use serde_json::json;

use crate::cli::{Context, Exit, Failure};
use crate::web::access::feed_secret;
use crate::web::feeds::{ATOM, CALENDAR};

pub(super) fn feeds(context: &Context) -> Result<Exit, Failure> {
    let config = context.config()?;
    let Some(web) = config.web else {
        return Err(Failure::new(Exit::NotFound, "there are no feeds")
            .because("the configuration has no [web]")
            .advise("docs/page.md says how the page is set up"));
    };
    let base = web.public_url.as_ref().map_or_else(|| format!("http://{}/", web.listen), ToString::to_string);
    let [verdicts, expected] = [ATOM, CALENDAR].map(|feed| match &web.token {
        Some(token) => format!("{base}feeds/{}/{feed}", feed_secret(token, feed)),
        None => format!("{base}{feed}"),
    });
    if context.json {
        context.out.json(&json!({ "verdicts": verdicts, "expected": expected }))?;
        return Ok(Exit::Done);
    }
    context.out.line(&format!("verdicts (Atom)          {verdicts}"))?;
    context.out.line(&format!("expected (iCalendar)     {expected}"))?;
    if web.token.is_some() {
        context.out.line("Anybody who has such an address can read the feed. A new token makes new addresses.")?;
    }
    Ok(Exit::Done)
}
