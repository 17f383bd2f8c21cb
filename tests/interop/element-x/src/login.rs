//! The ways in: with a password, with OAuth, and back to where the app was when it was closed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use matrix_sdk::{
    AuthSession, Client, SessionMeta, SessionTokens,
    authentication::{
        matrix::MatrixSession,
        oauth::{
            ClientId, ClientRegistrationData, OAuthSession, UserSession,
            registration::{ApplicationType, ClientMetadata, Localized, OAuthGrantType},
        },
    },
    cross_process_lock::CrossProcessLockConfig,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    reqwest::Url,
    ruma::{
        api::client::{
            account::register::v3::Request as Registration,
            discovery::get_authorization_server_metadata::v1::Prompt,
            uiaa::{AuthData, Dummy},
        },
        assign,
        serde::Raw,
    },
    sliding_sync::VersionBuilder,
    utils::UrlOrQuery,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::with::With;

/// Where the browser returns to the app.
const REDIRECT: &str = "io.element.android:/";

/// A client whose user is in the browser.
#[derive(Default)]
pub struct Login(Mutex<Option<Client>>);

/// What the app writes down to be logged in after it was closed.
#[derive(Deserialize, Serialize)]
struct Session {
    meta: SessionMeta,
    tokens: SessionTokens,
    /// With OAuth.
    program: Option<ClientId>,
}

/// A client with the settings of Element X, which keeps what it knows in the folder `store`.
async fn client(with: &With) -> Result<Client> {
    let client = Client::builder()
        .homeserver_url(with.text("url")?)
        .sliding_sync_version_builder(VersionBuilder::DiscoverNative)
        .sqlite_store(with.text("store")?, None)
        .cross_process_store_config(CrossProcessLockConfig::SingleProcess)
        .handle_refresh_tokens()
        .with_encryption_settings(EncryptionSettings {
            auto_enable_cross_signing: true,
            backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
            auto_enable_backups: false,
        })
        .build()
        .await?;
    let file = file(with)?;
    let reload = |_| Err("no other process knows better".into());
    client.set_session_callbacks(Box::new(reload), Box::new(move |client| Ok(save(&client, &file)?)))?;
    Ok(client)
}

/// Registers a user, or logs in as one on a further device.
pub async fn enter(with: &With) -> Result<Client> {
    let client = client(with).await?;
    let (user, password) = (with.text("user")?, with.text("password")?);
    if with.flag("known")? {
        client.matrix_auth().login_username(&user, &password).request_refresh_token().await?;
    } else {
        let request = assign!(Registration::new(), {
            username: Some(user),
            password: Some(password),
            auth: Some(AuthData::Dummy(Dummy::new())),
            refresh_token: true,
        });
        client.matrix_auth().register(request).await?;
    }
    entered(client, with).await
}

impl Login {
    /// Where the user is sent to log in, or to make an account first.
    pub async fn oauth_url(&self, with: &With) -> Result<String> {
        let client = client(with).await?;
        let redirect: Url = REDIRECT.parse()?;
        let grant = OAuthGrantType::AuthorizationCode { redirect_uris: vec![redirect.clone()] };
        let home = Localized::new("https://element.io/".parse()?, []);
        let metadata = ClientMetadata {
            client_name: Some(Localized::new("Element X".to_owned(), [])),
            ..ClientMetadata::new(ApplicationType::Native, vec![grant], home)
        };
        let metadata = ClientRegistrationData::new(Raw::new(&metadata)?);
        let mut login = client.oauth().login(redirect, None, Some(metadata), None);
        if !with.flag("known")? {
            login = login.prompt(vec![Prompt::Create]);
        }
        let authorization = login.build().await?;
        *self.0.lock().await = Some(client);
        Ok(authorization.url.into())
    }

    /// Goes on with what the browser came back with.
    pub async fn oauth(&self, with: &With) -> Result<Client> {
        let client = self.0.lock().await.take().context("nobody is in the browser")?;
        client.oauth().finish_login(UrlOrQuery::Url(with.get("callback")?)).await?;
        entered(client, with).await
    }
}

/// Comes back after the app was closed.
pub async fn return_to(with: &With) -> Result<Client> {
    let client = client(with).await?;
    let Session { meta, tokens, program } = serde_json::from_slice(&fs::read(file(with)?)?)?;
    let session: AuthSession = match program {
        Some(client_id) => OAuthSession { client_id, user: UserSession { meta, tokens } }.into(),
        None => MatrixSession { meta, tokens }.into(),
    };
    client.restore_session(session).await?;
    Ok(client)
}

/// Ends a log-in once the cryptography is ready.
async fn entered(client: Client, with: &With) -> Result<Client> {
    client.encryption().wait_for_e2ee_initialization_tasks().await;
    save(&client, &file(with)?)?;
    Ok(client)
}

/// Writes down who is logged in; it is done anew when the tokens change.
fn save(client: &Client, file: &Path) -> Result<()> {
    let session = match client.session().context("nobody is logged in")? {
        AuthSession::OAuth(session) => {
            let UserSession { meta, tokens } = session.user;
            Session { meta, tokens, program: Some(session.client_id) }
        }
        AuthSession::Matrix(MatrixSession { meta, tokens }) => Session { meta, tokens, program: None },
        _ => bail!("logged in in another way"),
    };
    Ok(fs::write(file, serde_json::to_vec(&session)?)?)
}

fn file(with: &With) -> Result<PathBuf> {
    Ok(with.get::<PathBuf>("store")?.join("session.json"))
}
