//! Signing in through a provider of identities, which the test plays over TLS.
//! <https://spec.matrix.org/v1.19/client-server-api/#sso-client-loginauthentication>

mod account;
mod idp;
mod pages;
mod people;
mod proof;
mod sign_in;
mod tokens;

use serde_json::json;
use tayberry::{
    base::secret::Secret,
    config::{Config, Issuer, ProviderId, RegistrationMode, Upstream},
};
use url::form_urlencoded;

use self::idp::Idp;
use crate::{
    media::Answer,
    net::Authority,
    rig::{Member, Reply, Rig},
};

/// A server that lets people of a provider in.
struct Scene {
    rig: Rig,
    idp: Idp,
    authority: Authority,
}

impl Scene {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let idp = Idp::start(&authority).await;
        let rig = Rig::with(|config| {
            configure(config, &authority, &idp);
            change(config);
        });
        Self { rig: rig.await, idp, authority }
    }

    /// Stops the server, and starts it again.
    async fn again(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { rig, idp, authority } = self;
        let rig = rig.again(|config| {
            configure(config, &authority, &idp);
            change(config);
        });
        Self { rig: rig.await, idp, authority }
    }

    /// Sends a browser to the provider, and back: the page where it then is.
    async fn come_back(&self, browser: &mut Browser) -> Answer {
        self.come_back_for(browser, CLIENT).await
    }

    async fn come_back_for(&self, browser: &mut Browser, client: &str) -> Answer {
        let to_provider = browser.get(&self.rig, &redirect(client)).await;
        assert_eq!(to_provider.status, 302, "{}", html(&to_provider));
        self.idp.set().now = self.rig.app.clock.now();
        browser.get(&self.rig, &self.idp.sign_in(to_provider.header("location"))).await
    }

    /// The same to the end: whom the client has logged in.
    async fn log_in(&self, browser: &mut Browser) -> Member {
        let page = self.come_back(browser).await;
        let gone = browser.press(&self.rig, &page, &[]).await;
        Member::of(self.redeem(gone.header("location")).await)
    }

    /// What a client gets for the token in the URL to which the browser was led.
    async fn redeem(&self, url: &str) -> Reply {
        let (_, token) = url.split_once("loginToken=").unwrap_or_else(|| panic!("no token: {url}"));
        let token = token.split(['#', '&']).next();
        let body = json!({"type": "m.login.token", "token": token});
        self.rig.post("/_matrix/client/v3/login", body).await
    }
}

fn configure(config: &mut Config, authority: &Authority, idp: &Idp) {
    config.registration.mode = RegistrationMode::Closed;
    config.federation.trusted_ca_files = vec![authority.file()];
    config.sso.allow_private_providers = true;
    config.upstream = vec![provider("example", &idp.issuer())];
}

fn provider(id: &str, issuer: &str) -> Upstream {
    Upstream {
        id: ProviderId::parse(id).unwrap(),
        name: "An <Example>".to_owned(),
        issuer: Issuer::parse(issuer).unwrap(),
        client_id: "us".to_owned(),
        client_secret: Some(Secret::new("s3cret!".to_owned())),
        scopes: vec!["profile".to_owned()],
        localpart_claim: "preferred_username".to_owned(),
        display_name_claim: "name".to_owned(),
        registration: true,
        match_existing: false,
        old_redirect_uri: false,
        trust_prompt: false,
        icon: None,
        brand: None,
    }
}

/// A browser, which keeps what it is given as a cookie.
#[derive(Clone, Default)]
struct Browser {
    cookie: Option<String>,
}

impl Browser {
    async fn get(&mut self, rig: &Rig, path: &str) -> Answer {
        self.send(rig, "GET", path, "").await
    }

    /// Presses the button of a page, with these fields filled in.
    async fn press(&mut self, rig: &Rig, page: &Answer, fields: &[(&str, &str)]) -> Answer {
        let html = html(page);
        let attribute = |after: &str, name: &str| {
            let (_, rest) = html.split_once(after).unwrap_or_else(|| panic!("no {after}: {html}"));
            let (_, rest) = rest.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let action = attribute("<form", "action");
        let mut form = form_urlencoded::Serializer::new(String::new());
        if html.contains("name=\"ticket\"") {
            form.append_pair("ticket", &attribute("name=\"ticket\"", "value"));
        }
        form.extend_pairs(fields);
        let form = form.finish();
        self.send(rig, "POST", &action, &form).await
    }

    async fn send(&mut self, rig: &Rig, method: &str, path: &str, body: &str) -> Answer {
        let cookie = self.cookie.clone();
        let headers: Vec<_> = cookie.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
        let answer = rig.transfer(method, path, None, &headers, body.as_bytes()).await;
        if let Some((cookie, _)) = answer.header("set-cookie").split_once(';') {
            let name = cookie.split_inclusive('=').next().unwrap();
            let kept = self.cookie.iter().flat_map(|kept| kept.split("; "));
            let kept: Vec<_> = kept.filter(|kept| !kept.starts_with(name)).chain([cookie]).collect();
            self.cookie = Some(kept.join("; "));
        }
        answer
    }
}

fn html(page: &Answer) -> String {
    String::from_utf8(page.body.clone()).unwrap()
}

/// Status and text of a page of what went wrong.
#[track_caller]
fn problem(page: &Answer) -> (u16, String) {
    let html = html(page);
    let (_, rest) = html.split_once("role=\"alert\">").unwrap_or_else(|| panic!("no problem: {html}"));
    (page.status, rest.split_once('<').unwrap().0.to_owned())
}

fn redirect(client: &str) -> String {
    let client: String = form_urlencoded::byte_serialize(client.as_bytes()).collect();
    format!("/_matrix/client/v3/login/sso/redirect?redirectUrl={client}")
}

const CLIENT: &str = "https://app.example.net/?x=1#/login";
const LOST: &str =
    "This took too long, was done before, or was begun in another browser. Begin again from your client.";
const NO_HELP: &str =
    "The service that you sign in with doesn&#39;t answer, or not as it should. Try again later.";
