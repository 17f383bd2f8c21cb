//! Who one of a provider's people is here. A link holds for ever; who has none may get an account.
//! <https://spec.matrix.org/v1.19/appendices/#mapping-from-other-character-sets>

use serde_json::Value;

use super::{
    SignInError, Who,
    id_token::Claims,
    provider::{Arrival, Provider},
};
use crate::{
    base::{ids::UserNumber, limits},
    service::{
        App,
        accounts::{self, RegisterError, Registration},
        localpart,
    },
    store::{Identity, StoreError},
};

/// Somebody who has no account.
#[derive(Clone)]
pub(super) struct Stranger {
    identity: Identity,
    /// The user name that they want, or may want.
    pub(super) name: String,
    /// Why they don't have it.
    pub(super) problem: NameProblem,
    display_name: Option<String>,
}

/// Why somebody is asked for a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// It isn't known yet whether they can have one.
    None,
    Taken,
    Invalid,
}

pub(super) fn identity(provider: &Provider<'_>, arrival: &Arrival) -> Identity {
    Identity { issuer: provider.settings.issuer.0.clone(), subject: arrival.claims.subject.clone() }
}

/// Takes somebody in whom nobody knows: gives them the account that has their name, if the operator wants that; else a new
/// one, if their name can be had as it is; else they are to be asked.
pub(super) async fn meet(
    provider: &Provider<'_>,
    identity: Identity,
    claims: &Claims,
) -> Result<Who, SignInError> {
    let (app, settings) = (provider.app, provider.settings);
    let text = |claim: &String| claims.others.get(claim).and_then(Value::as_str).unwrap_or_default();
    let told = text(&settings.localpart_claim);
    let exact = localpart::for_registration(told, &app.server_name);
    if let Some(name) = exact.clone().filter(|name| settings.match_existing && name == told)
        && let Some(user) = matched(app, &identity, name).await?
    {
        return Ok(Who::User(user));
    }
    if !settings.registration {
        return Err(SignInError::Stranger);
    }
    let display_name = text(&settings.display_name_claim).trim();
    let fits = (1..=limits::PROFILE_NAME_BYTES).contains(&display_name.len());
    let stranger = Stranger {
        identity,
        name: exact.clone().unwrap_or_else(|| suggestion(told)),
        problem: NameProblem::None,
        display_name: fits.then(|| display_name.to_owned()),
    };
    // Terms are agreed to by somebody who sees them.
    if exact.is_none() || app.terms.url.is_some() {
        return Ok(Who::Stranger(stranger));
    }
    Ok(register(app, stranger).await?)
}

/// Links somebody to the account that has their name already, unless the issuer calls somebody else so as well.
async fn matched(app: &App, identity: &Identity, name: String) -> Result<Option<UserNumber>, StoreError> {
    let identity = identity.clone();
    app.store
        .write(move |transaction| {
            let account = transaction.account(&name)?;
            let account = account.filter(|account| account.deactivated_at.is_none() && !account.admin);
            let Some(user) = account.map(|account| account.number) else { return Ok(None) };
            if let Some(linked) = transaction.user_of_identity(&identity)? {
                return Ok(Some(linked));
            }
            if transaction.issuers_of(user)?.contains(&identity.issuer) {
                return Ok(None);
            }
            transaction.link_identity(&identity, user)?;
            Ok(Some(user))
        })
        .await
}

/// Makes somebody's account. Who still is a stranger can't have that name.
pub(super) async fn register(app: &App, stranger: Stranger) -> Result<Who, StoreError> {
    let wanted = Registration {
        name: Some(stranger.name.clone()),
        terms: app.terms.url.is_some().then(|| app.terms.version.clone()),
        identity: Some(stranger.identity.clone()),
        display_name: stranger.display_name.clone(),
        ..Registration::default()
    };
    let problem = match accounts::register(app, wanted).await {
        // Somebody may have come twice at once.
        Ok(_) | Err(RegisterError::Linked) => {
            let identity = stranger.identity.clone();
            match app.store.read(move |view| view.user_of_identity(&identity)).await? {
                Some(user) => return Ok(Who::User(user)),
                None => NameProblem::Taken,
            }
        }
        Err(RegisterError::Store(error)) => return Err(error),
        Err(RegisterError::Taken) => NameProblem::Taken,
        Err(_) => NameProblem::Invalid,
    };
    Ok(Who::Stranger(Stranger { problem, ..stranger }))
}

impl Stranger {
    /// The same with another name.
    pub(super) fn named(&self, name: &str) -> Self {
        Self { name: name.trim().chars().take(limits::USER_ID_BYTES).collect(), ..self.clone() }
    }
}

/// A user name that is like what a provider tells, to begin with.
fn suggestion(told: &str) -> String {
    let local = told.split('@').next().unwrap_or_default().to_lowercase();
    let legal = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_');
    let spaced = local.split_whitespace().collect::<Vec<_>>().join(".");
    spaced.chars().filter(|c| legal(*c)).take(MAX_SUGGESTION).collect()
}

const MAX_SUGGESTION: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_a_name_that_can_be_had() {
        for (told, expected) in [
            ("Alice Liddell", "alice.liddell"),
            ("alice@example.org", "alice"),
            ("Zoë", "zo"),
            ("李", ""),
            ("", ""),
            ("<b>", "b"),
        ] {
            assert_eq!(suggestion(told), expected, "{told}");
        }
        assert_eq!(suggestion(&"a".repeat(1_000)).len(), MAX_SUGGESTION);
    }
}
