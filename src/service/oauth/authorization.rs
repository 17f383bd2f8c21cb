//! The authorisation code grant: a user's browser brings what a program asks for, and takes a code back.
//! <https://spec.matrix.org/v1.19/client-server-api/#authorisation-code-grant>

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{
    App, CODE_GRANT, GrantError, Scope, base,
    clients::{self, Client},
    issuer, redirects,
    tokens::{self, Issued},
};
use crate::{
    base::parameters::Parameters,
    store::{Account, SignedIn, StoreError},
};

/// What a program asks a user for.
pub struct Asked {
    pub client: Client,
    pub redirect_uri: String,
    pub scope: Scope,
    /// Whether the user is to make an account.
    pub create: bool,
    challenge: String,
    answer: Answer,
}

/// How a program wants to be answered.
struct Answer {
    in_fragment: bool,
    state: Option<String>,
    /// Who answers: a program may have asked several servers. <https://www.rfc-editor.org/rfc/rfc9207>
    issuer: Option<String>,
}

/// Why a user is not asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is sent where only somebody else says that they come from there.
    #[error("the program or its redirect URI is not registered")]
    Unknown,
    /// The program is told at this URI.
    #[error("the program asks for something else than it may")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads what a program asks for.
pub async fn ask(app: &App, given: &Parameters) -> Result<Asked, AskError> {
    let (Some(id), Some(uri)) = (given.get("client_id"), given.get("redirect_uri")) else {
        return Err(AskError::Unknown);
    };
    let client = clients::find(app, id).await?.filter(|client| client.redirects_to(uri));
    let client = client.ok_or(AskError::Unknown)?;
    let mode = given.get("response_mode");
    let state = given.get("state").map(str::to_owned);
    let issuer = base(app).map(issuer);
    let answer = Answer { in_fragment: mode == Some("fragment"), state, issuer };
    let challenge = given.get("code_challenge").filter(|challenge| is_challenge(challenge));
    let error = match given.get("response_type") {
        None => "invalid_request",
        Some("code") => match () {
            () if !client.may(CODE_GRANT) => "unauthorized_client",
            () if !matches!(mode, None | Some("query" | "fragment")) => "invalid_request",
            // Every page shown is one too many.
            () if given.get("prompt") == Some("none") => "interaction_required",
            () if given.get("code_challenge_method") != Some("S256") => "invalid_request",
            () => match (challenge, given.get("scope").and_then(Scope::parse)) {
                (Some(challenge), Some(scope)) => {
                    return Ok(Asked {
                        redirect_uri: uri.to_owned(),
                        create: given.get("prompt") == Some("create"),
                        challenge: challenge.to_owned(),
                        client,
                        scope,
                        answer,
                    });
                }
                (Some(_), None) => "invalid_scope",
                (None, _) => "invalid_request",
            },
        },
        Some(_) => "unsupported_response_type",
    };
    Err(AskError::Refused(answer.at(uri, "error", error)))
}

impl Asked {
    /// Where a user is sent who refuses.
    pub fn refuse(&self) -> String {
        self.answer.at(&self.redirect_uri, "error", "access_denied")
    }

    /// Where a user is sent who lets the program in; none if the account ended meanwhile.
    pub async fn allow(self, app: &App, signed_in: &SignedIn) -> Result<Option<String>, StoreError> {
        let user = signed_in.user;
        let account = app.store.read(move |view| view.account_by_number(user)).await?;
        let Some(account) = account else { return Ok(None) };
        let code = app.rng.token();
        let target = self.answer.at(&self.redirect_uri, "code", &code);
        let granted = Code {
            client: self.client,
            redirect_uri: self.redirect_uri,
            scope: self.scope,
            challenge: self.challenge,
            account,
            is_spent: false,
            is_exchanged: false,
        };
        app.grants.codes.insert(user, code, granted, app.clock.now());
        Ok(Some(target))
    }
}

impl Answer {
    fn at(&self, uri: &str, name: &str, value: &str) -> String {
        let state = self.state.iter().map(|state| ("state", state.as_str()));
        let issuer = self.issuer.iter().map(|issuer| ("iss", issuer.as_str()));
        let answer: Vec<_> = [(name, value)].into_iter().chain(state).chain(issuer).collect();
        redirects::with_answer(uri, self.in_fragment, &answer)
    }
}

/// What a code stands for.
#[derive(Clone)]
pub struct Code {
    client: Client,
    redirect_uri: String,
    scope: Scope,
    challenge: String,
    account: Account,
    is_spent: bool,
    /// Whether somebody has tokens for it.
    is_exchanged: bool,
}

/// Exchanges a code for tokens. A code that comes again has been seen by somebody else, so what it was exchanged for ends.
pub async fn exchange(app: &App, given: &Parameters) -> Result<Issued, GrantError> {
    let value = |name| given.get(name).ok_or(GrantError::InvalidRequest);
    let (client, code, uri) = (value("client_id")?, value("code")?, value("redirect_uri")?);
    let verifier = value("code_verifier")?;
    let found = app.grants.codes.update(code, app.clock.now(), |code| {
        let found = code.clone();
        code.is_spent = true;
        found
    });
    let found = found.filter(|found| found.client.id == client);
    let found = match found {
        Some(found) if found.is_spent => {
            if found.is_exchanged {
                tokens::end_device(app, found.account.number, found.scope.device_id.to_string()).await?;
            }
            return Err(GrantError::InvalidGrant);
        }
        Some(found) => found,
        None => match clients::find(app, client).await? {
            Some(_) => return Err(GrantError::InvalidGrant),
            None => return Err(GrantError::InvalidClient),
        },
    };
    if found.redirect_uri != uri || !is_verifier(verifier) || found.challenge != challenge(verifier) {
        return Err(GrantError::InvalidGrant);
    }
    let issued = tokens::issue(app, &found.client, found.scope, found.account).await?;
    app.grants.codes.update(code, app.clock.now(), |code| code.is_exchanged = true);
    Ok(issued)
}

/// Whether this could be the hash of something. <https://datatracker.ietf.org/doc/html/rfc7636#section-4.2>
fn is_challenge(text: &str) -> bool {
    BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn is_verifier(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    matches!(text.len(), 43..=128) && text.bytes().all(legal)
}

fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://datatracker.ietf.org/doc/html/rfc7636#appendix-B>
    #[test]
    fn a_challenge_is_the_hash_of_a_verifier() {
        let (verifier, hash) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_verifier(verifier) && is_challenge(hash));
        assert_eq!(challenge(verifier), hash);
        for bad in ["", &verifier[1..], &"a".repeat(129), &format!("{verifier}+")] {
            assert!(!is_verifier(bad), "{bad}");
        }
        for bad in ["", "abc", &hash[1..], "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"] {
            assert!(!is_challenge(bad), "{bad}");
        }
    }
}
