//! User-interactive authentication: some requests must prove again, stage by stage, that they may be made.
//!
//! A session is bound to one operation (endpoint, user and parameters); for another it is as good as unknown. It lives in
//! memory, for a while. Several requests may work with it at once: what one passes counts if none has passed it meanwhile,
//! and with the last stage the session is gone.
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use ruma::{
    OwnedUserId,
    api::{
        client::uiaa::{
            AuthData, AuthFlow, AuthType, Dummy, MatrixUserIdentifier, Password, RegistrationToken, Terms,
            UiaaInfo, UserIdentifier,
        },
        error::{ErrorKind, StandardErrorBody},
    },
};
use serde::Serialize;
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{App, localpart, oauth, registration_tokens, sessions, upstream};
use crate::{
    base::{
        expiring::{Expiring, Holder},
        ids::UserNumber,
        secret::Secret,
    },
    store::{StoreError, View},
};

/// What has to be authorised: a session for one operation is none for another.
#[derive(Clone, PartialEq, Eq)]
pub struct Operation {
    endpoint: &'static str,
    user: Option<UserNumber>,
    /// A hash of the parameters.
    parameters: [u8; 32],
}

impl Operation {
    /// An operation of a user on an account; `parameters` are those of the request that must not change between stages.
    pub fn of_user(endpoint: &'static str, user: UserNumber, parameters: &impl Serialize) -> Self {
        let json = serde_json::to_vec(parameters).expect("parameters of a request serialize");
        Self { endpoint, user: Some(user), parameters: *blake3::hash(&json).as_bytes() }
    }

    /// An operation of nobody in particular. Its parameters may change between stages: clients ask for the flows before
    /// they know what to ask for, and there is no account yet that another request could be smuggled onto.
    pub fn of_anyone(endpoint: &'static str) -> Self {
        Self { endpoint, user: None, parameters: [0; 32] }
    }
}

/// One step of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Always passed.
    Dummy,
    /// The password of the user whose operation it is.
    Password,
    /// An invitation to register that is still good.
    RegistrationToken,
    /// What the operator wants new users to accept.
    Terms,
    /// The user's word, on the page of their account, that new cross-signing keys are theirs.
    OAuth,
}

/// The proof that all stages were passed.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// The registration token of that stage. Its use counts only when the account is made.
    pub registration_token: Option<String>,
    /// The version of the terms that were accepted.
    pub terms: Option<String>,
}

/// Why an operation isn't authorised yet.
#[derive(Debug, thiserror::Error)]
pub enum UiaError {
    /// More is needed: what, the client reads here.
    #[error("more authentication is needed")]
    Challenge(Box<UiaaInfo>),
    /// The session is one of OAuth, which has no such proof.
    #[error("this is for other sessions")]
    OAuth,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Authorises what a session does with the account, by the password. It is not for sessions of OAuth, which know none.
/// <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-api>
pub async fn authorize_session(
    app: &App,
    session: &sessions::Session,
    operation: Operation,
    auth: Option<&AuthData>,
) -> Result<(), UiaError> {
    if oauth::is_session(app, session.device).await? {
        return Err(UiaError::OAuth);
    }
    authorize(app, session.number, operation, &[Stage::Password], auth).await.map(drop)
}

/// Authorises new cross-signing keys: for a session of OAuth by what the user says on the page of the account.
/// <https://spec.matrix.org/v1.19/client-server-api/#oauth-authentication>
pub async fn authorize_reset(
    app: &App,
    session: &sessions::Session,
    operation: Operation,
    auth: Option<&AuthData>,
) -> Result<(), UiaError> {
    let flow =
        if oauth::is_session(app, session.device).await? { &[Stage::OAuth] } else { &[Stage::Password] };
    authorize(app, session.number, operation, flow, auth).await.map(drop)
}

/// Authorises an operation by the stages of `flow`, in order, or tells which are left. A session that begins is `holder`'s.
pub async fn authorize(
    app: &App,
    holder: impl Into<Holder>,
    operation: Operation,
    flow: &'static [Stage],
    auth: Option<&AuthData>,
) -> Result<Proof, UiaError> {
    let (holder, now) = (holder.into(), app.clock.now());
    let flows = flows(app, &operation, flow).await?;
    let by_upstream = flows.iter().any(|flow| flow.stages == [AuthType::Sso]);
    let named = auth.and_then(AuthData::session);
    let is_its = |session: &Session| session.operation == operation;
    let known = named.and_then(|id| Some((id.to_owned(), app.uia.get(id, now).filter(is_its)?)));
    // What comes with a session that isn't known proves nothing.
    let auth = auth.filter(|_| named.is_none() || known.is_some());
    let begin = || {
        let (id, session) = (app.rng.token(), Session::new(operation.clone(), flow));
        app.uia.insert(holder, id.clone(), session.clone(), now);
        (id, session)
    };
    let (id, session) = known.unwrap_or_else(begin);
    let refusal = match auth {
        Some(auth) => attempt(app, &id, session, auth).await?,
        None => None,
    };
    let is_done = |session: &Session| {
        is_its(session) && (session.passed == flow.len() || by_upstream && session.by_upstream)
    };
    if let Some(session) = app.uia.take_if(&id, now, is_done) {
        return Ok(session.proof);
    }
    // Another request may have been faster, and nothing is left of what it used.
    let passed = app.uia.renew(&id, now, |session| session.passed);
    let (id, passed) = passed.map_or_else(|| (begin().0, 0), |passed| (id, passed));
    let mut info = UiaaInfo::new(flows);
    info.completed = flow[..passed].iter().map(Stage::auth_type).collect();
    // Clients look for parameters even where no stage has any.
    info.params = to_raw_value(&parameters(app, flow)).ok();
    info.session = Some(id);
    info.auth_error =
        refusal.map(|text| Box::new(StandardErrorBody::new(ErrorKind::Forbidden, text.to_owned())));
    Err(UiaError::Challenge(Box::new(info)))
}

/// The flows of which one is enough. A password's place can be taken by the provider with which the user signs in.
async fn flows(
    app: &App,
    operation: &Operation,
    flow: &'static [Stage],
) -> Result<Vec<AuthFlow>, StoreError> {
    let mut flows = vec![AuthFlow::new(flow.iter().map(Stage::auth_type).collect())];
    let user = operation.user.filter(|_| flow == [Stage::Password]);
    if let Some(user) = user
        && upstream::can_prove(app, user).await?
    {
        let account = app.store.read(move |view| view.account_by_number(user)).await?;
        if account.is_some_and(|account| account.password_hash.is_none()) {
            flows.clear();
        }
        flows.push(AuthFlow::new(vec![AuthType::Sso]));
    }
    Ok(flows)
}

/// Whose operation a session is for, and which.
pub(super) fn subject(app: &App, id: &str) -> Option<(UserNumber, &'static str)> {
    let read = |session: &mut Session| Some((session.operation.user?, session.operation.endpoint));
    app.uia.update(id, app.clock.now(), read)?
}

/// The same, with the user's id.
pub async fn subject_shown(app: &App, id: &str) -> Result<Option<(OwnedUserId, &'static str)>, StoreError> {
    let Some((user, operation)) = subject(app, id) else { return Ok(None) };
    let account = app.store.read(move |view| view.account_by_number(user)).await?;
    Ok(account.map(|account| (localpart::user_id(&account.localpart, &app.server_name), operation)))
}

/// Notes in a session that its user has proved by their provider who they are. False if it isn't theirs, or not any more.
pub(super) fn prove_by_upstream(app: &App, id: &str, user: UserNumber) -> bool {
    let note = |session: &mut Session| {
        let is_theirs = session.operation.user == Some(user);
        session.by_upstream |= is_theirs;
        is_theirs
    };
    app.uia.update(id, app.clock.now(), note).unwrap_or_default()
}

/// Whether a session waits for a stage, which a page can help with.
pub fn waits_for(app: &App, id: &str, stage: Stage) -> bool {
    let next = |session: &mut Session| session.flow.get(session.passed) == Some(&stage);
    app.uia.update(id, app.clock.now(), next).unwrap_or_default()
}

/// Passes the stage that a session waits for by what somebody wrote on a page: the password or the token, if it is one of
/// those. What comes of it: the reason why it failed, if it did. None if it waits for another.
pub async fn attempt_on_page(
    app: &App,
    id: &str,
    stage: Stage,
    text: &str,
) -> Result<Option<Result<(), &'static str>>, StoreError> {
    let now = app.clock.now();
    let waits = |session: &Session| session.flow.get(session.passed) == Some(&stage);
    let Some(session) = app.uia.get(id, now).filter(waits) else { return Ok(None) };
    let auth = match stage {
        Stage::Dummy => AuthData::Dummy(Dummy::new()),
        Stage::Terms => AuthData::Terms(Terms::new()),
        Stage::RegistrationToken => AuthData::RegistrationToken(RegistrationToken::new(text.to_owned())),
        Stage::Password => {
            let user = session.operation.user;
            let read = move |view: &View<'_>| user.map_or(Ok(None), |user| view.account_by_number(user));
            let account = app.store.read(read).await?;
            let user = account.map(|account| account.localpart).unwrap_or_default();
            AuthData::Password(Password::new(MatrixUserIdentifier::new(user).into(), text.to_owned()))
        }
        // It has a page of its own.
        Stage::OAuth => return Ok(None),
    };
    let refusal = attempt(app, id, session, &auth).await?;
    Ok(Some(refusal.map_or(Ok(()), Err)))
}

/// Passes the next stage of a session as it was, or tells why that failed. It stays where it is meanwhile: to find out may
/// take a while, and others ask for it.
async fn attempt(
    app: &App,
    id: &str,
    mut session: Session,
    auth: &AuthData,
) -> Result<Option<&'static str>, StoreError> {
    let before = session.passed;
    let refusal = session.attempt(app, auth).await?;
    app.uia.renew(id, app.clock.now(), |kept| {
        if kept.passed == before {
            (kept.passed, kept.proof) = (session.passed, session.proof);
        }
    });
    Ok(refusal)
}

/// What a client must know to pass the stages: the terms to show, the page to open.
/// <https://spec.matrix.org/v1.19/client-server-api/#definition-mloginterms-params>
fn parameters(app: &App, flow: &[Stage]) -> Map<String, Value> {
    let mut parameters = Map::new();
    if let (true, Some(url)) = (flow.contains(&Stage::Terms), &app.terms.url) {
        let text = json!({"name": app.terms.name, "url": url.as_str()});
        let policy = json!({"version": app.terms.version, "en": text});
        parameters.insert("m.login.terms".to_owned(), json!({"policies": {"terms_of_service": policy}}));
    }
    if let (true, Some(base)) = (flow.contains(&Stage::OAuth), oauth::base(app)) {
        let url = oauth::account_url(base, oauth::RESET);
        parameters.insert("m.oauth".to_owned(), json!({"url": url}));
    }
    parameters
}

/// The sessions under way.
pub type Sessions = Expiring<Session>;

/// What was proved so far.
#[derive(Clone)]
pub struct Session {
    operation: Operation,
    flow: &'static [Stage],
    /// How many stages of the flow were passed.
    passed: usize,
    /// Whether the user has proved by their provider who they are.
    by_upstream: bool,
    proof: Proof,
}

impl Session {
    fn new(operation: Operation, flow: &'static [Stage]) -> Self {
        Self { operation, flow, passed: 0, by_upstream: false, proof: Proof::default() }
    }

    /// Passes the next stage of the flow, or tells why it failed; what is for another stage changes nothing.
    async fn attempt(&mut self, app: &App, auth: &AuthData) -> Result<Option<&'static str>, StoreError> {
        let Some(stage) = self.flow.get(self.passed) else { return Ok(None) };
        let refusal = match (stage, auth) {
            (Stage::Dummy, AuthData::Dummy(_)) => None,
            (Stage::Password, AuthData::Password(given)) => {
                let password = Secret::new(given.password.clone());
                let right = self.is_password(app, &given.identifier, password).await?;
                (!right).then_some("Wrong user name or password")
            }
            (Stage::RegistrationToken, AuthData::RegistrationToken(given)) => {
                let valid = registration_tokens::is_valid(app, given.token.clone()).await?;
                self.proof.registration_token = valid.then(|| given.token.clone());
                (!valid).then_some("This registration token is not valid")
            }
            (Stage::Terms, AuthData::Terms(_)) => {
                self.proof.terms = Some(app.terms.version.clone());
                None
            }
            (Stage::OAuth, _) if self.operation.user.is_some_and(|user| oauth::take_reset(app, user)) => None,
            _ => return Ok(None),
        };
        if refusal.is_none() {
            self.passed += 1;
        }
        Ok(refusal)
    }

    /// Whether the identifier names the user whose operation it is, and the password is theirs.
    async fn is_password(
        &self,
        app: &App,
        identifier: &UserIdentifier,
        password: Secret<String>,
    ) -> Result<bool, StoreError> {
        let account = match self.operation.user {
            Some(number) => app.store.read(move |view| view.account_by_number(number)).await?,
            None => None,
        };
        let named = account.filter(|account| match identifier {
            UserIdentifier::Matrix(given) => {
                localpart::for_log_in(&given.user, &app.server_name).contains(&account.localpart)
            }
            _ => false,
        });
        Ok(app.passwords.verify(password, named.and_then(|account| account.password_hash)).await)
    }
}

impl Stage {
    fn auth_type(&self) -> AuthType {
        match self {
            Self::Dummy => AuthType::Dummy,
            Self::Password => AuthType::Password,
            Self::RegistrationToken => AuthType::RegistrationToken,
            Self::Terms => AuthType::Terms,
            Self::OAuth => AuthType::OAuth,
        }
    }
}
