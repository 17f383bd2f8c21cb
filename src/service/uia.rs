//! User-interactive authentication: some requests must prove again, stage by stage, that they may be made.
//!
//! A session is bound to one operation (endpoint, user and parameters); for another it is as good as unknown. It lives in
//! memory, for a while, and leaves the map while a request works with it, so no stage is passed twice.
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>

use ruma::api::{
    client::uiaa::{AuthData, AuthFlow, AuthType, UiaaInfo, UserIdentifier},
    error::{ErrorKind, StandardErrorBody},
};
use serde::Serialize;
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{App, localpart, registration_tokens};
use crate::{
    base::{expiring::Expiring, ids::UserNumber, secret::Secret},
    store::StoreError,
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
}

/// The proof that all stages were passed.
#[derive(Debug, Default)]
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Authorises an operation by the stages of `flow`, in order, or tells which are left.
pub async fn authorize(
    app: &App,
    operation: Operation,
    flow: &'static [Stage],
    auth: Option<&AuthData>,
) -> Result<Proof, UiaError> {
    let now = app.clock.now();
    let known = auth
        .and_then(AuthData::session)
        .map(|id| (id, app.uia.take_if(id, now, |session| session.operation == operation)));
    let (id, mut session, auth) = match known {
        Some((id, Some(session))) => (id.to_owned(), session, auth),
        // What comes with a session that isn't known proves nothing.
        Some((_, None)) => (app.rng.token(), Session::new(operation), None),
        None => (app.rng.token(), Session::new(operation), auth),
    };
    let refusal = match auth {
        Some(auth) => session.attempt(app, flow, auth).await?,
        None => None,
    };
    if session.passed == flow.len() {
        return Ok(session.proof);
    }
    let mut info = UiaaInfo::new(vec![AuthFlow::new(flow.iter().map(Stage::auth_type).collect())]);
    info.completed = flow[..session.passed].iter().map(Stage::auth_type).collect();
    // Clients look for parameters even where no stage has any.
    info.params = to_raw_value(&parameters(app, flow)).ok();
    info.session = Some(id.clone());
    info.auth_error =
        refusal.map(|text| Box::new(StandardErrorBody::new(ErrorKind::Forbidden, text.to_owned())));
    app.uia.insert(id, session, now);
    Err(UiaError::Challenge(Box::new(info)))
}

/// What a client must know to pass the stages: the terms to show.
/// <https://spec.matrix.org/v1.19/client-server-api/#definition-mloginterms-params>
fn parameters(app: &App, flow: &[Stage]) -> Map<String, Value> {
    let mut parameters = Map::new();
    if let (true, Some(url)) = (flow.contains(&Stage::Terms), &app.terms.url) {
        let text = json!({"name": app.terms.name, "url": url.as_str()});
        let policy = json!({"version": app.terms.version, "en": text});
        parameters.insert("m.login.terms".to_owned(), json!({"policies": {"terms_of_service": policy}}));
    }
    parameters
}

/// The sessions under way.
pub type Sessions = Expiring<Session>;

/// What was proved so far.
pub struct Session {
    operation: Operation,
    /// How many stages of the flow were passed.
    passed: usize,
    proof: Proof,
}

impl Session {
    fn new(operation: Operation) -> Self {
        Self { operation, passed: 0, proof: Proof::default() }
    }

    /// Passes the next stage of `flow`, or tells why it failed; what is for another stage changes nothing.
    async fn attempt(
        &mut self,
        app: &App,
        flow: &[Stage],
        auth: &AuthData,
    ) -> Result<Option<&'static str>, StoreError> {
        let refusal = match (flow[self.passed], auth) {
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
        }
    }
}
