//! User sign-ins: device codes, and the refresh tokens they lead to.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::duration_serde;
use super::refusal::Refusal;
use vetwatch_core::time::Timestamp;

/// How users sign in, and how refresh tokens are rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
pub struct SignIns {
    pub rotation: Rotation,
    /// Users sign in with a second factor.
    pub mfa: bool,
    /// How Partner Center rejects users without a second factor.
    pub mfa_refusal: MfaRefusal,
    /// Minimum interval between a device's requests.
    #[serde(with = "duration_serde")]
    pub interval: Duration,
    /// Lifetime of a device code.
    #[serde(with = "duration_serde")]
    pub code_lifetime: Duration,
    /// Conditional Access blocks device codes: nobody can sign in with one.
    pub device_codes_blocked: bool,
    /// Who opens the sign-in page in a browser declines.
    pub browser_declines: bool,
    /// Users may sign in through an application that proves nothing (in Entra ID: allow public client flows).
    pub public_clients: bool,
}

impl Default for SignIns {
    fn default() -> Self {
        Self {
            rotation: Rotation::default(),
            mfa: true,
            mfa_refusal: MfaRefusal::default(),
            interval: Duration::from_secs(1),
            code_lifetime: Duration::from_mins(15),
            device_codes_blocked: false,
            browser_declines: false,
            public_clients: false,
        }
    }
}

/// How redeeming a refresh token affects others. Entra ID's behaviour is not fully documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// The newest and the one redeemed for it are valid; older ones are rejected.
    #[default]
    Previous,
    /// Once the new access token is used, only the newest is valid.
    Strict,
    /// All stay valid, as Entra ID's documentation says.
    Lenient,
    /// No rotation: the same token stays valid.
    Never,
}

/// The 401 for a user without a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MfaRefusal {
    /// `401 Unauthorized - MFA required` and `WWW-Authenticate`, without a body.
    #[default]
    Header,
    /// 900421 in a body.
    Code,
}

/// A user's decision about a device code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Pending,
    Approved,
    Declined,
}

/// A device that waits for its user.
#[derive(Debug, Clone, Serialize)]
pub struct Device {
    pub user_code: String,
    pub decision: Decision,
    pub expires_at: Timestamp,
    /// Number of requests so far.
    pub asked: u64,
    #[serde(skip)]
    interval: Duration,
    #[serde(skip)]
    asked_at: Option<Timestamp>,
    #[serde(skip)]
    scope: String,
}

/// The sign-in that an access token belongs to.
#[derive(Debug, Clone)]
pub(crate) struct OfUser {
    pub(super) mfa: bool,
    family: usize,
    /// The refresh token that was redeemed for the access token.
    redeemed: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) settings: SignIns,
    devices: HashMap<String, Device>,
    /// Each issued refresh token: its sign-in, and the time of issue.
    tokens: HashMap<String, (usize, Timestamp)>,
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    latest: String,
    previous: Option<String>,
    revoked: bool,
    mfa: bool,
}

/// Microsoft: a refresh token lasts 90 days.
const LIFE: Duration = Duration::from_hours(90 * 24);

pub(super) fn made_up(length: usize) -> String {
    (0..length).map(|_| fastrand::alphanumeric()).collect()
}

impl Users {
    /// Responds to a device's first request.
    pub(super) fn device_code(&mut self, scope: &str, url: &str, now: Timestamp) -> Value {
        let (device_code, user_code) = (made_up(150), made_up(9).to_uppercase());
        let SignIns { interval, code_lifetime, .. } = self.settings;
        let device = Device {
            user_code: user_code.clone(),
            decision: Decision::Pending,
            expires_at: now.after(code_lifetime),
            asked: 0,
            interval,
            asked_at: None,
            scope: scope.to_owned(),
        };
        self.devices.insert(device_code.clone(), device);
        json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": url,
            "expires_in": code_lifetime.as_secs(),
            "interval": interval.as_secs(),
            "message": format!("To sign in, use a web browser to open the page {url} and enter the code {user_code} to authenticate."),
        })
    }

    pub(crate) fn devices(&self) -> Vec<Device> {
        self.devices.values().cloned().collect()
    }

    /// False if no device is waiting with that code.
    pub(crate) fn decide(&mut self, user_code: &str, decision: Decision) -> bool {
        let device = self.devices.values_mut().find(|device| device.user_code.eq_ignore_ascii_case(user_code));
        device.map(|device| device.decision = decision).is_some()
    }

    /// What a person who opens the sign-in page in a browser is refused with.
    pub(super) fn refuses_browsers(&self) -> Option<Refusal> {
        let text = "User declined to consent to access the app.";
        self.settings.browser_declines.then(|| Refusal::new(400, "access_denied", 65004, text))
    }

    /// Checks whether the user has signed in. Returns the first refresh token, if it was requested, and the scope.
    pub(super) fn redeem_device(
        &mut self,
        code: &str,
        now: Timestamp,
    ) -> Result<((OfUser, Option<String>), String), Refusal> {
        let Some(device) = self.devices.get_mut(code) else {
            return Err(Refusal::new(400, "bad_verification_code", 70019, "Verification code expired or unknown."));
        };
        device.asked += 1;
        let early = device.asked_at.is_some_and(|at| now.since(at) < device.interval.mul_f32(0.9));
        device.asked_at = Some(now);
        if device.expires_at <= now {
            let text = "OAuth2 authorization code was not redeemed in time: the device code has expired.";
            return Err(Refusal::new(400, "expired_token", 70020, text));
        }
        if early {
            device.interval += Duration::from_secs(5);
            return Err(Refusal::new(400, "slow_down", 70014, "The device asks too often."));
        }
        match device.decision {
            Decision::Approved if self.settings.device_codes_blocked => {
                let text = "Access has been blocked by Conditional Access policies. The access policy does not allow \
                            token issuance.";
                Err(Refusal::of_grant(53003, text))
            }
            Decision::Pending => {
                let text = "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
                Err(Refusal::new(400, "authorization_pending", 70016, text))
            }
            Decision::Declined => {
                let text = "The end user denied the authorization request.";
                Err(Refusal::new(400, "authorization_declined", 65004, text))
            }
            Decision::Approved => {
                let scope = device.scope.clone();
                self.devices.remove(code);
                Ok((self.sign_in_for(&scope, now), scope))
            }
        }
    }

    /// Signs the user in. There is a refresh token if it is in the scope.
    pub(super) fn sign_in_for(&mut self, scope: &str, now: Timestamp) -> (OfUser, Option<String>) {
        let keeps = scope.split(' ').any(|scope| scope == "offline_access");
        let (user, token) = self.sign_in(now);
        (user, keeps.then_some(token))
    }

    pub(crate) fn sign_in(&mut self, now: Timestamp) -> (OfUser, String) {
        let (family, mfa, token) = (self.families.len(), self.settings.mfa, format!("1.{}", made_up(800)));
        self.families.push(Family { latest: token.clone(), previous: None, revoked: false, mfa });
        self.tokens.insert(token.clone(), (family, now));
        (OfUser { mfa, family, redeemed: None }, token)
    }

    /// Revokes every sign-in, as a changed password does.
    pub(crate) fn revoke(&mut self) -> usize {
        self.families.iter_mut().for_each(|family| family.revoked = true);
        self.families.len()
    }

    /// Redeems a refresh token for its replacement.
    pub(super) fn redeem(&mut self, token: &str, now: Timestamp) -> Result<(OfUser, Option<String>), Refusal> {
        let Some((number, given_at)) = self.tokens.get(token).copied() else {
            return Err(Refusal::of_grant(9_002_313, "Invalid request. Request is malformed or invalid."));
        };
        let rotation = self.settings.rotation;
        let family = &mut self.families[number];
        if family.revoked {
            let text = "The provided grant has expired due to it being revoked, a fresh auth token is needed. The \
                        user might have changed or reset their password.";
            return Err(Refusal::of_grant(50173, text));
        }
        if now.since(given_at) >= LIFE {
            let text = "The refresh token has expired due to inactivity. The token was inactive for 90.00:00:00.";
            return Err(Refusal::of_grant(700_082, text));
        }
        let is_newest = family.latest == token;
        if !is_newest && family.previous.as_deref() != Some(token) && rotation != Rotation::Lenient {
            return Err(Refusal::of_grant(70000, "Provided grant is invalid or malformed: it was replaced."));
        }
        let user = OfUser { mfa: family.mfa, family: number, redeemed: Some(token.to_owned()) };
        if rotation == Rotation::Never {
            return Ok((user, None));
        }
        let replacement = format!("1.{}", made_up(800));
        (family.latest, family.previous) = (replacement.clone(), Some(token.to_owned()));
        self.tokens.insert(replacement.clone(), (number, now));
        Ok((user, Some(replacement)))
    }

    /// Records that an access token was used at Partner Center.
    pub(super) fn used(&mut self, user: &OfUser) {
        if self.settings.rotation == Rotation::Strict
            && let Some(family) = self.families.get_mut(user.family)
            && family.previous == user.redeemed
        {
            family.previous = None;
        }
    }
}
