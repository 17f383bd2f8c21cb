//! One request of a browser: where it is on this server, which browser it is and who is signed in with it.
//!
//! A form counts only if the browser's own page sent it: a proof that follows from the cookie stands in it, and the
//! browser doesn't say that it comes from elsewhere. No page may be framed, kept, or told to whoever it leads to.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header::ORIGIN};
use url::Url;

use super::sign_in;
use crate::{
    api::{
        Body, Error,
        page::{Html, Page, Sent, cookie_name, redirect, set_cookie},
    },
    base::{
        limits,
        parameters::{Parameters, encoded},
    },
    service::{
        App,
        oauth::{self, browsers},
    },
    store::{SignedIn, StoreError},
};

/// A request to a page.
pub(super) struct Visit {
    pub(super) app: App,
    pub(super) query: Parameters,
    pub(super) form: Parameters,
    /// What the browser's cookie holds.
    pub(super) cookie: String,
    pub(super) who: Option<SignedIn>,
    /// The path and the query, as the browser asked for them.
    pub(super) here: String,
    /// The path at which this server begins.
    prefix: String,
    cookie_name: &'static str,
    /// How long the browser is to keep the cookie, if it gets one.
    cookie_goes: Option<Option<Duration>>,
}

/// Why a page isn't shown.
pub(super) enum Refusal {
    /// Another one is.
    Shown(Box<Response<Body>>),
    Failed(Error),
}

impl Visit {
    /// Finds out who visits; a form must be of one of the browser's own pages.
    pub(super) async fn begin(app: App, sent: Sent) -> Result<Self, Refusal> {
        let base =
            oauth::base(&app).and_then(|base| Url::parse(base).ok()).ok_or_else(Error::unrecognized)?;
        let cookie_name = cookie_name(COOKIE, base.as_str());
        let known = sent.cookie(cookie_name).map(str::to_owned);
        let is_new = known.is_none();
        let cookie = known.unwrap_or_else(|| browsers::new_cookie(&app));
        let who = if is_new { None } else { browsers::find(&app, &cookie).await? };
        let (is_form, form) = (sent.method == Method::POST, sent.form());
        let is_own = !is_new
            && is_from_here(&sent.headers, &base)
            && form.get("proof") == Some(&*browsers::proof_of_form(&cookie));
        let visit = Self {
            here: format!("{}?{}", sent.uri.path(), sent.query),
            query: sent.query,
            prefix: base.path().trim_end_matches('/').to_owned(),
            cookie_goes: is_new.then_some(None),
            cookie_name,
            app,
            form,
            cookie,
            who,
        };
        if is_form && !is_own {
            let title = "This form can’t be used";
            let why = "It was not sent by a page of this server, or your browser keeps no cookies.";
            let html = Html::default().paragraph("Go back, load the page again and send the form once more.");
            return Err(visit.problem(StatusCode::FORBIDDEN, title, why, html).into());
        }
        Ok(visit)
    }

    /// Who is signed in; whoever isn't is asked to, and comes back.
    pub(super) fn signed_in(&self) -> Result<&SignedIn, Refusal> {
        self.who.as_ref().ok_or_else(|| {
            let next = format!("{}{}", self.prefix, self.here);
            self.redirect(&self.path_with_next(sign_in::PATH, Some(&next))).into()
        })
    }

    /// The browser has another cookie from now on.
    pub(super) fn set_cookie(&mut self, cookie: String, is_signed_in: bool) {
        self.cookie = cookie;
        self.cookie_goes = Some(is_signed_in.then_some(limits::BROWSER_LIFETIME));
    }

    /// A path of this server, as a browser finds it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// A path of this server from which the visitor goes on to where they wanted to go.
    pub(super) fn path_with_next(&self, path: &str, next: Option<&str>) -> String {
        match next {
            Some(next) => format!("{}{path}?next={}", self.prefix, encoded(next)),
            None => self.path(path),
        }
    }

    /// Where the visitor wanted to go: a page of this server and nothing else.
    pub(super) fn next(&self) -> Option<&str> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        let next = self.query.get("next").filter(|next| next.bytes().all(plain))?;
        next.strip_prefix(&self.prefix)?.starts_with("/oauth/").then_some(next)
    }

    /// What a form of this browser must hold.
    pub(super) fn proof(&self) -> String {
        browsers::proof_of_form(&self.cookie)
    }

    /// Sends the browser elsewhere.
    pub(super) fn redirect(&self, to: &str) -> Response<Body> {
        self.keeping(redirect(StatusCode::SEE_OTHER, to))
    }

    /// A page.
    pub(super) fn page(&self, title: &str, html: Html) -> Response<Body> {
        self.shown(Page::new(title, html))
    }

    /// A page again, with what was wrong.
    pub(super) fn problem(
        &self,
        status: StatusCode,
        title: &str,
        problem: &str,
        html: Html,
    ) -> Response<Body> {
        self.shown(Page { status, problem, ..Page::new(title, html) })
    }

    /// A page of this server.
    pub(super) fn shown(&self, page: Page<'_>) -> Response<Body> {
        self.keeping(Page { server: self.app.server_name.as_str(), ..page }.answer())
    }

    /// An answer with the cookie, if the browser gets one.
    fn keeping(&self, mut response: Response<Body>) -> Response<Body> {
        if let Some(lifetime) = self.cookie_goes {
            set_cookie(&mut response, self.cookie_name, &self.cookie, lifetime);
        }
        response
    }
}

/// What the router is answered.
pub(super) fn answered(outcome: Result<Response<Body>, Refusal>) -> Result<Response<Body>, Error> {
    match outcome {
        Ok(response) => Ok(response),
        Err(Refusal::Shown(response)) => Ok(*response),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

impl From<Response<Body>> for Refusal {
    fn from(response: Response<Body>) -> Self {
        Self::Shown(Box::new(response))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// Whether the browser doesn't say that a form came from elsewhere. Where no referrer is told, its origin isn't either.
fn is_from_here(headers: &HeaderMap, base: &Url) -> bool {
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => headers
            .get(ORIGIN)
            .is_none_or(|origin| origin == "null" || *origin == *base.origin().ascii_serialization()),
    }
}

const COOKIE: &str = "__Host-tayberry";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
